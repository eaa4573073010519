import type { CompileOptions } from "./options.js";
import { startEngine } from "./start-engine.js";

/** Compiles by loading: what is in the cache afterwards has run once. */
export async function compile(options: CompileOptions): Promise<number> {
  const engine = await startEngine(options);
  const { id, precision, kv, window, sinks } = engine.card;
  await engine.close();
  process.stdout.write(
    `${id} is compiled (${precision}, keys and values in ${kv}, window ${window}, ${sinks} sinks)\n`,
  );
  return 0;
}
