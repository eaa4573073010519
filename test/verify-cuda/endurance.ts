import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import type { LambdaCache } from "../../runtime/cache/lambda-cache.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { memory } from "../bench/memory.js";
import { median, timed } from "../bench/report.js";
import { pretend } from "./full-cache.js";
import type { Bench, Section } from "./section.js";

const MODEL = join("models", "default");
const GEOMETRY = { window: 256, sinks: 10 };
const TOKENS = 100_000;
const STEPS = 1000;
const RATIO = 1.03;
/** The driver gives memory in pieces of 2 MiB. */
const PIECE = 2 << 20;

/** One long text: what a step costs at its end, and what the GPU's memory does meanwhile. */
export const endurance: Section = {
  name: "endurance",
  about:
    "The embedded model in f16, decode replayed, each token the likeliest after the one before; then a text at 100,000 tokens and one just past G + W, stepped alternately.",
  async run(bench, findings) {
    const { device, cacheRoot } = bench;
    const model = await compileModel({ path: MODEL, precision: "f16", device: "cuda", cacheRoot });
    using runner = new Runner(model, { window: GEOMETRY.window, threads: 1, device, replays: true });
    const cache = runner.openCache(GEOMETRY);
    const old = cache.allocate();
    const decoded = bench.tiny ? 2000 : bench.quick ? 20_000 : TOKENS;
    const add = findings.table("Endurance", ["what", "measured", "unit"]);

    const used = await decodeLong(bench, runner, cache, old, decoded);
    const growth = used.end - used.settled;
    add([`tokens decoded`, decoded, ""]);
    add(["speed", decoded / used.seconds, "tokens/s"]);
    const settled = (decoded / 10).toLocaleString("en");
    add([`GPU memory in use at token ${settled}`, used.settled / 1e6, "MB"]);
    add(["GPU memory in use at the end", used.end / 1e6, "MB"], {
      goal: "no more than 2 MiB grown",
      met: growth <= PIECE,
    });
    add(["resident memory of the process, grown", used.hostGrowth / 1e6, "MB"]);

    if (decoded < TOKENS) {
      findings.note(`The last ${(TOKENS - decoded).toLocaleString("en")} of 100,000 tokens were counted, not decoded.`);
      pretend(cache, old, TOKENS - decoded);
    }
    const young = cache.allocate();
    for (let i = 0; i < GEOMETRY.window + GEOMETRY.sinks + 1; i++) runner.decode(cache, young, [i]);
    const [late, early] = alternately(runner, cache, [old, young]);
    add([`step at ${TOKENS.toLocaleString("en")} tokens, median`, late, "ms"]);
    add(["step just past G + W, median", early, "ms"]);
    const ratio = late / early;
    add(["ratio of the two", ratio, ""], { goal: `<= ${RATIO}`, met: ratio <= RATIO });
    runner.closeCache(cache);
  },
};

interface Used {
  readonly seconds: number;
  /** Bytes of the GPU in use, by anybody, after a tenth of the tokens. */
  readonly settled: number;
  readonly end: number;
  readonly hostGrowth: number;
}

async function decodeLong(
  { device }: Bench,
  runner: Runner,
  cache: LambdaCache,
  row: number,
  tokens: number,
): Promise<Used> {
  const inUse = () => {
    const { free, total } = device.runtime.memory();
    return total - free;
  };
  let [token, settled, host] = [runner.model.shape.bosTokenId ?? 0, 0, 0];
  const began = performance.now();
  for (let i = 1; i <= tokens; i++) {
    token = likeliest(runner.decode(cache, row, [token]));
    if (i === tokens / 10) [settled, host] = [inUse(), memory().rss];
    // What native calls have left is only let go between turns of the event loop.
    if (i % 1000 === 0) await new Promise(setImmediate);
  }
  const seconds = (performance.now() - began) / 1000;
  return { seconds, settled, end: inUse(), hostGrowth: memory().rss - host };
}

function alternately(runner: Runner, cache: LambdaCache, [old, young]: readonly [number, number]): [number, number] {
  const [late, early]: [number[], number[]] = [[], []];
  for (let i = 0; i < 20; i++) for (const row of [old, young]) runner.decode(cache, row, [i]);
  for (let i = 0; i < STEPS; i++) {
    late.push(timed(() => runner.decode(cache, old, [i])));
    early.push(timed(() => runner.decode(cache, young, [i])));
  }
  return [median(late), median(early)];
}

function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if ((logits[i] ?? 0) > (logits[best] ?? 0)) best = i;
  return best;
}
