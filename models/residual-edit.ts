import { BATCH, type CutInputs, type EditInputs } from "./graph-interface.js";
import type { HookName } from "./hooks.js";
import type { GraphBuilder, Value } from "./onnx/graph.js";
import { type CuttingSae, cutWeights, keepsFeatures } from "./sae/edit-cut.js";

/** Rows of `EditInputs.parameters`, in order. */
export const EDIT_PARAMETERS = ["bias", "threshold", "gain", "offset", "slope", "shift"] as const;
/** Rows of `EditInputs.normalisation`, in order. */
export const EDIT_NORMALISATIONS = ["none", "layer_norm", "constant_norm_rescale"] as const;

/** So that a zero vector's length can be divided by: its product with what it scales is still 0. */
const SMALLEST_LENGTH = 1e-30;

/**
 * A residual stream x with features of sparse autoencoders edited, all of them read from x as it comes:
 * pre = (normalised x) w + bias; a = relu(gain * pre + offset) where pre > threshold, else 0, and 0 where the cut of an SAE
 * is asked and does not keep the feature; x += scale * (slope * a + shift) * (decoder row), scale undoing the normalisation.
 * x is [batch, tokens, d] of activations, and so is the result; between them all is float32.
 * @param saes whose cuts can be asked
 */
export function editResidual(
  graph: GraphBuilder,
  hook: HookName,
  stream: Value,
  d: number,
  saes: readonly CuttingSae[],
): { readonly edited: Value; readonly inputs: EditInputs } {
  const name = (part: string) => `edits.${hook}.${part}`;
  const count = name("count");
  const cuts = saes.map((sae, i) => ({ sae, inputs: cutInputs(graph, name(`cut${i}`), sae, count) }));
  const inputs: EditInputs = {
    hook,
    count,
    encoder: graph.input(name("encoder"), "float32", [BATCH, d, count]),
    decoder: graph.input(name("decoder"), "float32", [BATCH, count, d]),
    normalisation: graph.input(name("normalisation"), "float32", [BATCH, EDIT_NORMALISATIONS.length, count]),
    parameters: graph.input(name("parameters"), "float32", [BATCH, EDIT_PARAMETERS.length, count]),
    cuts: cuts.map((cut) => cut.inputs),
  };
  const x = graph.toFloat32(stream);
  const { factors, scales } = normalisations(graph, x, d); // [batch, tokens, 3] each
  const number = (value: number) => graph.constant("float32", [1], [value]);
  const mul = (a: Value, b: Value) => graph.op("Mul", [a, b]);
  const add = (a: Value, b: Value) => graph.op("Add", [a, b]);
  const [bias = "", threshold = "", gain = "", offset = "", slope = "", shift = ""] = graph.multi(
    "Split",
    [inputs.parameters],
    EDIT_PARAMETERS.length,
    { axis: 1, num_outputs: EDIT_PARAMETERS.length },
  ); // [batch, 1, edits] each

  const factor = graph.op("MatMul", [factors, inputs.normalisation]); // [batch, tokens, edits]
  const pre = add(mul(graph.op("MatMul", [x, inputs.encoder]), factor), bias);
  const active = graph.op("Relu", [add(mul(pre, gain), offset)]);
  const isActive = cuts.reduce(
    (active, cut) => graph.op("And", [active, isKept(graph, cut.sae, cut.inputs, x)]),
    graph.op("Greater", [pre, threshold]),
  );
  const a = graph.op("Where", [isActive, active, number(0)]);
  const scale = graph.op("MatMul", [scales, inputs.normalisation]);
  const delta = mul(add(mul(a, slope), shift), scale);
  const edited = graph.add(x, graph.op("MatMul", [delta, inputs.decoder]));
  return { edited: graph.toActivations(edited), inputs };
}

function cutInputs(graph: GraphBuilder, name: string, { id, outline }: CuttingSae, count: string): CutInputs {
  return {
    sae: id,
    asked: graph.hostInput(`${name}.asked`, "bool", [1]),
    features: graph.input(`${name}.features`, "int64", [BATCH, 1, count]),
    weights: new Map(
      [...cutWeights(outline)].map(([weight, shape]) => [weight, graph.input(`${name}.${weight}`, "float32", shape)]),
    ),
  };
}

/** False [batch, tokens, edits] where an edit asks for the cut and its feature is not kept. */
function isKept(graph: GraphBuilder, { outline }: CuttingSae, { asked, features, weights }: CutInputs, x: Value) {
  const weight = (name: string): Value => weights.get(name) ?? name;
  return graph.when(
    asked,
    { type: "bool", shape: ["rows", "columns", "cells"] },
    (then) => {
      const isOther = then.op("Less", [features, then.constant("int64", [], [0])]);
      return then.op("Or", [isOther, keepsFeatures(then, outline, x, features, weight)]);
    },
    (otherwise) => otherwise.constant("bool", [1, 1, 1], [1]),
  );
}

/** What x is multiplied by in each kind of normalisation, and what undoes it. The mean is taken off by centred encoders. */
function normalisations(graph: GraphBuilder, x: Value, d: number): { readonly factors: Value; readonly scales: Value } {
  const number = (value: number) => graph.constant("float32", [1], [value]);
  const last = graph.constant("int64", [1], [-1]);
  const reduced = (op: string, of: Value) => graph.op(op, [of, last], { keepdims: 1 });
  // Not by ReduceL2 and ReduceSumSquare, for which CUDA needs cuDNN.
  const squares = (of: Value) => reduced("ReduceSum", graph.op("Mul", [of, of]));
  const centred = graph.op("Sub", [x, reduced("ReduceMean", x)]);
  const std = graph.op("Sqrt", [graph.op("Div", [squares(centred), number(d - 1)])]);
  const length = graph.op("Max", [graph.op("Sqrt", [squares(x)]), number(SMALLEST_LENGTH)]);
  const relative = graph.op("Div", [length, number(Math.sqrt(d))]);
  const one = graph.op("Div", [relative, relative]);
  const concatenated = (parts: readonly Value[]) => graph.op("Concat", parts, { axis: -1 });
  const reciprocal = (of: Value) => graph.op("Reciprocal", [of]);
  return {
    factors: concatenated([one, reciprocal(graph.op("Add", [std, number(1e-5)])), reciprocal(relative)]),
    scales: concatenated([one, std, relative]),
  };
}
