import { availableParallelism } from "node:os";
import { initialWeights } from "../../lab/step/initial-weights.js";
import { openStep } from "../../lab/step/open-step.js";
import { newState } from "../../lab/step/sae-state.js";
import type { StepConfig } from "../../lab/step/step-config.js";
import { argument, type Figure, report } from "./report.js";
import { madeUpBatch } from "./training-rows.js";

/**
 * `npm run bench:training-memory`: resident memory over the steps of 10 million tokens, dead features come and go.
 * --tokens <n>, --threads <n>, --json.
 */
const BATCH = 2048;
const MARKS = 10;
/** Share of the first mark's that memory may grow by. */
const GOAL = 0.02;
const steps = Math.ceil(Number(argument("tokens") ?? 10e6) / BATCH);
const threads = Number(argument("threads") ?? availableParallelism());

const config: StepConfig = {
  ...{ dIn: 192, dSae: 1024, batch: BATCH, normalisation: "layer_norm" },
  activation: { kind: "batch-topk", k: 32 },
  dead: { penalty: 1 / 32, most: 256, after: 2 },
  adam: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, clip: null },
};
const batches = Array.from({ length: 4 }, (_, i) => madeUpBatch(config.dIn, BATCH, i));
const [first = new Float32Array()] = batches;
using step = openStep(config, newState(config, initialWeights(config, first, 1)), { threads });
const figures: Figure[] = [];
let begun = 0;
for (let i = 1; i <= steps; i++) {
  step.run(batches[i % batches.length] ?? first, { learningRate: 3e-4 });
  if (i % Math.floor(steps / MARKS) !== 0) continue;
  globalThis.gc?.();
  const megabytes = process.memoryUsage.rss() / 1e6;
  begun ||= megabytes;
  const name = `after ${((i * BATCH) / 1e6).toFixed(1)} M tokens`;
  figures.push({ name, value: megabytes, unit: "MB", beside: "", met: megabytes <= begun * (1 + GOAL) });
}
report(`resident memory of training, batches of ${BATCH}, ${threads} threads`, figures);
