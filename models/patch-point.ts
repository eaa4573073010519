import type { PatchInputs } from "./graph-interface.js";
import type { HookName } from "./hooks.js";
import type { GraphBuilder, Value } from "./onnx/graph.js";

/**
 * A place x [batch, tokens, d] of activations at which the vectors of some tokens, which may be none, are replaced by
 * vector * factor + offset; those of all others stay as they are, to the bit. Between them all is float32.
 */
export function patchPoint(
  graph: GraphBuilder,
  hook: HookName,
  stream: Value,
  d: number,
): { readonly patched: Value; readonly inputs: PatchInputs } {
  const name = (part: string) => `patches.${hook}.${part}`;
  const count = name("count");
  const inputs: PatchInputs = {
    hook,
    count,
    at: graph.input(name("at"), "int64", [count, 2]),
    factor: graph.input(name("factor"), "float32", [count, 1]),
    offset: graph.input(name("offset"), "float32", [count, d]),
  };
  const x = graph.toFloat32(stream);
  const scaled = graph.op("Mul", [graph.op("GatherND", [x, inputs.at]), inputs.factor]);
  const patched = graph.op("ScatterND", [x, inputs.at, graph.op("Add", [scaled, inputs.offset])]);
  return { patched: graph.toActivations(patched), inputs };
}
