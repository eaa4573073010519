import { z } from "zod";
import type { GraphBuilder, Value } from "./onnx/graph.js";

/** Activation functions of MLPs. gelu is exact (erf), gelu_tanh its approximation (Hendrycks and Gimpel 2016). */
export type Activation = "silu" | "gelu" | "gelu_tanh" | "relu";

/** By the names that configs give them (transformers' ACT2FN). */
const KNOWN: Readonly<Record<string, Activation>> = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  relu: "relu",
};

/** A config's name of an activation, as one of ours. */
export const ActivationName = z
  .string(mustBeKnown())
  .refine((name) => Object.hasOwn(KNOWN, name), mustBeKnown())
  .transform((name) => KNOWN[name] ?? "silu");

function mustBeKnown(): string {
  return `the activations known here are ${Object.keys(KNOWN).join(", ")}`;
}

/** QuickGelu with alpha 1 is silu. */
export function activate(graph: GraphBuilder, activation: Activation, x: Value): Value {
  if (activation === "silu") return graph.microsoft("QuickGelu", [x], { alpha: { float: 1 } });
  if (activation === "relu") return graph.op("Relu", [x]);
  return graph.op("Gelu", [x], { approximate: activation === "gelu" ? "none" : "tanh" });
}
