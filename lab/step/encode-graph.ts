import type { Value } from "../../models/onnx/graph.js";
import type { StepConfig } from "./step-config.js";
import { type StepGraph, StepGraphBuilder } from "./step-graph.js";

/** Rows before the cut. */
export interface Encoding {
  /** x normalised, and that less b_dec, [batch, dIn]; their lengths, [batch, 1]. */
  readonly input: Value;
  readonly centred: Value;
  readonly inputLength: Value;
  readonly length: Value;
  /** relu(centred W_enc), [batch, dSae], the output `activations`. */
  readonly activations: Value;
  /** Lengths of decoder rows, [dSae, 1]. */
  readonly norms: Value;
}

/**
 * Writes the first half of a step of top-AFA, top-k and batch top-k, of the inputs x, W_enc, W_dec and b_dec. What the second
 * half needs of it are the outputs `input`, `centred`, `norms` and `activations`.
 */
export function encode(step: StepGraphBuilder): Encoding {
  const { dIn, dSae, batch } = step.config;
  const { input, centred } = step.encoderInput();
  const products = step.product(centred, step.input("W_enc", [dIn, dSae]));
  const norms = step.lengths(step.input("W_dec", [dSae, dIn]));
  const activations = step.graph.op("Relu", [products], {}, "activations");
  step.graph.output(activations, "float32", [batch, dSae]);
  step.output("input", input, [batch, dIn]);
  step.output("centred", centred, [batch, dIn]);
  step.output("norms", norms, [dSae, 1]);
  return { input, centred, inputLength: step.lengths(input), length: step.lengths(centred), activations, norms };
}

/** The first half, whose rows the host cuts: it needs the lengths `input_length` and `length` as well. */
export function encodeGraph(config: StepConfig): StepGraph {
  const step = new StepGraphBuilder(config, false);
  const { inputLength, length } = encode(step);
  step.output("input_length", inputLength, [config.batch, 1]);
  step.output("length", length, [config.batch, 1]);
  return step.finish("encode");
}
