import { availableParallelism } from "node:os";
import { compileModel } from "../../models/compile.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { benchFolder, layerWeights, randomLlama, SMOLLM2 } from "./bench-model.js";
import { MatMul } from "./matmul.js";
import { PlannedChunks } from "./planned-chunks.js";
import { argument, type Figure, median, report, timed } from "./report.js";

/**
 * Prefilling prompts of 512 and 16,384 tokens in the chunks that the server takes, beside the rate of one f32 MatMul
 * [chunk, 576] x [576, 1536] of ONNX Runtime, measured between the chunks of the same run.
 */
const WINDOW = 1024;
const SINKS = 10;
const GOAL = 0.7;

const threads = Number(argument("threads") ?? availableParallelism());
const model = await compileModel({ path: randomLlama(SMOLLM2), precision: "f32", cacheRoot: benchFolder("cache") });
using runner = new Runner(model, { window: WINDOW, threads });
const chunks = new PlannedChunks(model, WINDOW, runner.kv);
const figures: Figure[] = [];
prefill(1024);
const settled = chunks.next(0, WINDOW);
using matmul = new MatMul(settled, SMOLLM2.hidden, SMOLLM2.intermediate, threads);

for (const tokens of [512, 16_384]) {
  const rounds = Array.from({ length: tokens > 4096 ? 1 : 5 }, () => prefill(tokens, matmul));
  const perSecond = median(rounds.map((round) => tokens / round.seconds));
  const achieved = median(rounds.map((round) => round.operations / round.seconds));
  const peak = median(rounds.flatMap((round) => round.matmul));
  const share = achieved / peak;
  figures.push(
    { name: `${tokens} tokens`, value: perSecond, unit: "tokens/s", beside: `chunks of ${settled}` },
    {
      name: `${tokens} tokens: rate`,
      value: achieved / 1e9,
      unit: "GFLOP/s",
      beside: `MatMul [${settled},576]x[576,1536]: ${(peak / 1e9).toFixed(1)} GFLOP/s`,
    },
    {
      name: `${tokens} tokens: share of it`,
      value: share * 100,
      unit: "%",
      beside: `goal ${GOAL * 100} %`,
      met: share >= GOAL,
    },
  );
}
report("prefill: SmolLM2-135M shape, random weights, f32, window 1024, 10 sinks", figures, [
  `${threads} threads; operations counted: 2 per layer weight and token, 4 x heads x head size per visible key`,
]);

function prefill(tokens: number, peer?: MatMul): { seconds: number; operations: number; matmul: number[] } {
  const cache = runner.openCache({ window: WINDOW, sinks: SINKS });
  const row = cache.allocate();
  const rates: number[] = [];
  let [seconds, operations] = [0, 0];
  for (let start = 0; start < tokens; ) {
    const size = chunks.next(start, tokens - start);
    const ids = Array.from({ length: size }, (_, i) => ((start + i) * 7919) % SMOLLM2.vocab);
    const ms = timed(() => runner.prefill(cache, row, ids));
    chunks.measured(size, ms);
    seconds += ms / 1000;
    for (let t = start; t < start + size; t++) operations += tokenOperations(Math.min(t + 1, WINDOW + SINKS));
    start += size;
    if (peer !== undefined) rates.push(peer.operations / (timed(() => peer.run()) / 1000));
  }
  runner.closeCache(cache);
  return { seconds, operations, matmul: rates };
}

/** Operations that a token needs which sees this many keys; the output head is not run in prefill. */
function tokenOperations(keys: number): number {
  return 2 * layerWeights(SMOLLM2) + 4 * SMOLLM2.layers * SMOLLM2.heads * SMOLLM2.headDim * keys;
}
