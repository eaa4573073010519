import { availableParallelism } from "node:os";
import { initialWeights } from "../../lab/step/initial-weights.js";
import { openStep } from "../../lab/step/open-step.js";
import { newState } from "../../lab/step/sae-state.js";
import type { StepConfig, TrainedActivation } from "../../lab/step/step-config.js";
import { argument, type Figure, median, report, timed } from "./report.js";
import { StepFloor } from "./step-floor.js";
import { madeUpBatch } from "./training-rows.js";

/**
 * `npm run bench:training-step`: a training step beside ONNX Runtime's own products of the same shapes, in turns.
 * --shape <d>x<h>, --runs <n>, --threads <n>, --json.
 */
const GOAL = 0.7;
const BATCH = Number(argument("batch") ?? 2048);
const RUNS = Number(argument("runs") ?? 0);
const threads = Number(argument("threads") ?? availableParallelism());
const SHAPES = (argument("shape") ?? "192x1024,768x12288").split(",").map((text) => text.split("x").map(Number));
const ACTIVATIONS: readonly TrainedActivation[] = [
  { kind: "top-afa", lambda: 1 / 32, target: "centred" },
  { kind: "topk", k: 32 },
  { kind: "batch-topk", k: 32 },
  { kind: "jumprelu", l0Coefficient: 1, bandwidth: 0.05 },
];

const figures: Figure[] = [];
for (const [dIn = 0, dSae = 0] of SHAPES) {
  const isLarge = dIn * dSae > 1e6;
  const [warmUp, runs] = isLarge ? [3, RUNS || 3] : [60, RUNS || 15];
  const batches = Array.from({ length: isLarge ? 2 : 8 }, (_, i) => madeUpBatch(dIn, BATCH, i));
  for (const activation of ACTIVATIONS.filter(({ kind }) => (argument("only") ?? kind) === kind))
    for (const dead of activation.kind === "jumprelu" ? [false] : [false, true]) {
      const config: StepConfig = {
        ...{ dIn, dSae, batch: BATCH, normalisation: "layer_norm", activation },
        // All features are dead at once, or none ever is.
        dead: { penalty: 1 / 32, most: 256, after: dead ? 1 : 1e9 },
        adam: { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, clip: activation.kind === "jumprelu" ? 1 : null },
      };
      const first = batches[0] ?? new Float32Array();
      using step = openStep(config, newState(config, initialWeights(config, first, 1)), { threads });
      using floor = new StepFloor(config, { threads, dead });
      const next = (i: number) => step.run(batches[i % batches.length] ?? first, { learningRate: 3e-4 });
      for (let i = 0; i < warmUp; i++) next(i);
      for (let i = 0; i < 2; i++) floor.run();
      const shares: number[] = [];
      const times: number[] = [];
      let l0 = 0;
      for (let i = 0; i < runs; i++) {
        const least = timed(() => floor.run());
        const taken = timed(() => {
          l0 = next(i).l0;
        });
        shares.push(least / taken);
        times.push(taken);
      }
      const share = median(shares);
      const rate = Math.round((1000 * BATCH) / median(times)).toLocaleString("en");
      const name = `${dIn} x ${dSae}, ${activation.kind}${dead ? ", dead features" : ""}`;
      const beside = `of the products' rate (goal 70 %); ${rate} tokens/s, l0 ${l0.toFixed(0)}`;
      figures.push({ name, value: 100 * share, unit: "%", beside, met: share >= GOAL });
    }
}
report(`training step, batches of ${BATCH}, ${threads} threads`, figures);
