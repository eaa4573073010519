import type { StepConfig } from "./step-config.js";
import { type StepGraph, StepGraphBuilder } from "./step-graph.js";

/**
 * The first half of a step of top-AFA, top-k and batch top-k: activations before the cut.
 * Inputs x, W_enc, W_dec, b_dec; outputs `input` (x normalised), `centred` (less b_dec), both [batch, dIn], their lengths
 * `input_length`, `length` [batch, 1], `activations` relu(centred W_enc) [batch, dSae] and `norms` of decoder rows [dSae, 1].
 */
export function encodeGraph(config: StepConfig): StepGraph {
  const { dIn, dSae, batch } = config;
  const step = new StepGraphBuilder(config, false);
  const { input, centred } = step.encoderInput();
  const wEnc = step.input("W_enc", [dIn, dSae]);
  const wDec = step.input("W_dec", [dSae, dIn]);
  step.output("input", input, [batch, dIn]);
  step.output("centred", centred, [batch, dIn]);
  step.output("input_length", step.lengths(input), [batch, 1]);
  step.output("length", step.lengths(centred), [batch, 1]);
  step.output("norms", step.lengths(wDec), [dSae, 1]);
  const products = step.product(centred, wEnc);
  step.graph.op("Relu", [products], {}, "activations");
  step.graph.output("activations", "float32", [batch, dSae]);
  return step.finish("encode");
}
