import { LocalEngine } from "../../runtime/engine/engine.js";
import type { LocalEngineOptions } from "../../runtime/engine/options.js";
import { parseCompletionRequest } from "../../server/openai/request/completion-request.js";
import { toSequences } from "../../server/openai/sequences.js";
import { type ProcessorTime, processorTimeOf } from "./thread-times.js";

/**
 * The engine of bench:server-cost without a server: `node engine-alone.js <options>` with an IPC channel that gives bodies
 * of completion requests.
 */
export interface EngineRun {
  readonly tokens: number;
  /** From the first token to the last, in ms. */
  readonly ms: number;
  readonly cpu: ProcessorTime;
}

const options: LocalEngineOptions = JSON.parse(process.argv[2] ?? "{}");
const engine = await LocalEngine.start({ prefixBytes: 0, ...options });
process.on("message", async (body: Record<string, unknown>) => process.send?.(await run(body)));
process.send?.("ready");

async function run(body: Record<string, unknown>): Promise<EngineRun> {
  let [tokens, first, last] = [0, 0, 0];
  const cpu = await processorTimeOf(process.pid, async () => {
    const { sequences } = await toSequences(parseCompletionRequest(body), engine);
    for await (const event of engine.generate(sequences, new AbortController().signal)) {
      if (event.type !== "token") continue;
      last = performance.now();
      if (tokens++ === 0) first = last;
    }
  });
  return { tokens, ms: last - first, cpu };
}
