import type { StepConfig } from "./step-config.js";
import { gradient, type StepGraph, StepGraphBuilder } from "./step-graph.js";

/** Coefficient of the L0 loss in this step. */
export const L0_COEFFICIENT = "l0_coefficient";
/** What keeps a factor of clipping finite, as PyTorch has it. */
const CLIP_EPSILON = 1e-6;

/**
 * A whole step of jumprelu as SAELens 6.54 trains it. p = z W_enc + b_enc, theta = max(threshold, 0), f = p 1[p > theta],
 * e = f W_dec + b_dec - xn; loss = mean over rows of the sums of e^2, + c mean over rows of L0. Thresholds have the gradient
 * of a rectangle K = 1[|p - theta| < width / 2]: d theta = -sum K (theta / width dF + c / (B width)); nothing of it reaches p.
 * Rajamanoharan et al. 2024, arXiv 2407.14435; decoderesearch/SAELens, sae_lens/saes/jumprelu_sae.py.
 */
export function jumpreluGraph(config: StepConfig, showsGradients = false): StepGraph {
  const { dIn, dSae, batch, activation, adam } = config;
  if (activation.kind !== "jumprelu") throw new RangeError(`${activation.kind} has no thresholds`);
  const step = new StepGraphBuilder(config, showsGradients);
  const { graph } = step;
  const { input, centred } = step.encoderInput();
  const [wEnc, wDec] = [step.input("W_enc", [dIn, dSae]), step.input("W_dec", [dSae, dIn])];
  const threshold = graph.op("Max", [step.input("threshold", [dSae]), step.number(0)]);
  const coefficient = step.input(L0_COEFFICIENT, []);

  const products = step.product(centred, wEnc, { c: step.input("b_enc", [dSae]) });
  const open = step.above(products, threshold);
  const kept = step.times(products, open);
  const error = step.minus(step.product(kept, wDec, { c: "b_dec" }), input);
  const byFeature = step.sum(open, 0); // [1, dSae]
  step.output("mse", step.meanSquare(error), []);
  step.output("variance", step.meanSquare(step.minus(input, step.times(step.sum(input, 0), 1 / batch))), []);
  step.output("active", byFeature, [1, dSae]);

  const ofReconstruction = step.times(error, 2 / batch);
  const ofKept = step.product(ofReconstruction, wDec, { transposed: "b" });
  const ofProducts = step.times(ofKept, open);
  const distance = graph.op("Abs", [step.minus(products, threshold)]);
  const kernel = graph.cast(graph.op("Less", [distance, step.number(activation.bandwidth / 2)]), "float32");
  const within = step.times(step.times(step.sum(step.times(ofKept, kernel), 0), threshold), 1 / activation.bandwidth);
  const counted = step.times(step.times(step.sum(kernel, 0), coefficient), 1 / (batch * activation.bandwidth));
  const ofEncoderBias = step.sum(ofProducts, 0);
  const ofBias = step.minus(step.sum(ofReconstruction, 0), step.product(ofEncoderBias, wEnc, { transposed: "b" }));
  const flat = (value: string, size: number) => graph.op("Reshape", [value, graph.constant("int64", [1], [size])]);
  const gradients = new Map([
    ["W_enc", step.product(centred, ofProducts, { transposed: "a" })],
    ["W_dec", step.product(kept, ofReconstruction, { transposed: "a" })],
    ["b_dec", flat(ofBias, dIn)],
    ["b_enc", flat(ofEncoderBias, dSae)],
    ["threshold", flat(graph.op("Neg", [step.plus(within, counted)]), dSae)],
  ]);
  step.adam(clipped(step, gradients, adam.clip), new Map([["threshold", threshold]]));
  return step.finish("jumprelu");
}

/** Scales gradients by min(1, clip / (their length together + 1e-6)). */
function clipped(step: StepGraphBuilder, gradients: ReadonlyMap<string, string>, clip: number | null) {
  if (clip === null) return gradients;
  const { graph, showsGradients } = step;
  const squares = Array.from(gradients.values(), (each) => graph.op("ReduceSumSquare", [each], { keepdims: 0 }));
  const length = graph.op("Sqrt", [squares.reduce((sum, each) => step.plus(sum, each))]);
  step.output("gradient_length", length, []);
  const share = graph.op("Div", [step.number(clip), step.plus(length, CLIP_EPSILON)]);
  const factor = graph.op("Min", [share, step.number(1)]);
  return new Map(
    Array.from(gradients, ([name, each]) => {
      if (showsGradients)
        step.output(`${gradient(name)}.unclipped`, each, [...graph.signature.inputs.get(name)!.shape].map(Number));
      return [name, step.times(each, factor)] as const;
    }),
  );
}
