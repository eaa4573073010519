import type { DescribedModel } from "../../models/architectures/architecture.js";
import {
  type AttentionSizes,
  type LayerAttention,
  type QueryKeyValue,
  type Rotary,
  rotate,
  softcap,
  sum,
} from "../../models/attention/attention.js";
import { Forward } from "../../models/forward.js";
import type { RotaryInputs } from "../../models/graph-interface.js";
import type { BuiltGraph, GraphOptions } from "../../models/graphs.js";
import type { Geometry } from "../../models/model-shape.js";
import { type Dimension, GraphBuilder, type Value } from "../../models/onnx/graph.js";
import { WeightPlan } from "../../models/weights/weight-plan.js";

/** Names of a graph with full attention: tokens of one text, whose keys and values are appended in place. */
export interface FullInterface {
  /** [1, tokens] int64. */
  readonly ids: Value;
  /** Tokens of the run whose logits are wanted, [wanted] int64. */
  readonly wanted: Value;
  /** [wanted, vocabSize]. */
  readonly logits: Value;
  /** Tokens in the cache after the run, less one: [1] int32. */
  readonly last: Value;
  /** Tokens in the cache after the run: [1] int32. */
  readonly total: Value;
  /** cos and sin of every position, [positions, rotaryDim / 2]. */
  readonly rotary: RotaryInputs;
  /** Per layer [1, kvHeads, slots, headDim]; the output is the input's own memory. */
  readonly layers: readonly { readonly keys: InPlace; readonly values: InPlace }[];
}

interface InPlace {
  readonly input: Value;
  readonly output: Value;
}

/**
 * How full attention is computed. `gqa`: by GroupQueryAttention of com.microsoft, which rotates, appends and attends in one
 * node; its cost follows the text, not the buffer. `products`: one token at a time in a buffer that is exactly as long as
 * its text, two products per group of query heads, so that each key is read once and not once per query head.
 */
export type FullKind = "gqa" | "products";

/** The graph of a model. Its weights have the names of the model's other graphs. */
export function buildFull(
  model: DescribedModel,
  kind: FullKind,
  options: Pick<GraphOptions, "precision" | "dtypes" | "weightsFile">,
): Omit<BuiltGraph<FullInterface>, "hooks"> {
  const graph = new GraphBuilder();
  const ids = graph.input("ids", "int64", [1, "tokens"]);
  const wanted = graph.input("wanted", "int64", ["wanted"]);
  const inputs = positionInputs(graph, model.shape.geometries);
  const attention = kind === "gqa" ? new GroupQuery(graph, inputs) : new GroupProducts(graph, inputs);
  const { hiddenSize } = model.shape;
  const none = { taps: new Set<never>(), edits: new Set<never>(), hiddenSize };
  model.forward(new Forward(graph, new WeightPlan(), attention, ids, wanted, { ...options, ...none }));
  const { last, total, rotary } = inputs;
  return {
    interface: { ids, wanted, logits: "logits", last, total, rotary, layers: attention.layers },
    bytes: graph.serialize(kind),
  };
}

interface PositionInputs extends Pick<FullInterface, "last" | "total" | "rotary"> {
  readonly positions: Rotary;
}

/** @throws RangeError if the model has other positions than rotary ones, or layers that do not see the whole text. */
function positionInputs(graph: GraphBuilder, geometries: readonly Geometry[]): PositionInputs {
  const [only, ...others] = geometries;
  if (only === undefined || others.length > 0 || only.window !== "lambda" || only.positions.kind !== "rotary")
    throw new RangeError("full attention needs rotary positions and layers that all see the whole text");
  const table = ["positions", only.positions.rotaryDim / 2];
  return {
    last: graph.input("last", "int32", [1]),
    total: graph.input("total", "int32", [1]),
    rotary: { cos: graph.input("cos", "float32", table), sin: graph.input("sin", "float32", table) },
    positions: only.positions,
  };
}

/** Buffers of a layer's keys and values, declared as inputs and as outputs. */
function buffers(graph: GraphBuilder, layer: number, { kvHeads, headDim }: AttentionSizes) {
  const shape: Dimension[] = [1, kvHeads, "slots", headDim];
  const inPlace = (name: string): InPlace => ({
    input: graph.input(name, "float32", shape),
    output: graph.output(`${name}.out`, "float32", shape),
  });
  return { keys: inPlace(`keys.${layer}`), values: inPlace(`values.${layer}`) };
}

class GroupQuery implements LayerAttention {
  readonly layers: FullInterface["layers"][number][] = [];

  constructor(
    readonly graph: GraphBuilder,
    readonly inputs: PositionInputs,
  ) {}

  /** Not cut at all: the node takes queries, keys and values side by side, as the projection gives them. */
  splitHeads(projected: Value): Value[] {
    return [projected];
  }

  attend(layer: number, sizes: AttentionSizes, { query }: QueryKeyValue): Value {
    const { last, total, rotary, positions } = this.inputs;
    const { keys, values } = buffers(this.graph, layer, sizes);
    this.layers.push({ keys, values });
    return this.graph.microsoft(
      "GroupQueryAttention",
      [query, "", "", keys.input, values.input, last, total, rotary.cos, rotary.sin],
      {
        num_heads: sizes.heads,
        kv_num_heads: sizes.kvHeads,
        scale: { float: sizes.scale },
        do_rotary: 1,
        ...(positions.interleaved ? { rotary_interleaved: 1 } : {}),
        ...(sizes.softcap ? { softcap: { float: sizes.softcap } } : {}),
      },
      [keys.output, values.output],
    );
  }
}

class GroupProducts implements LayerAttention {
  readonly layers: FullInterface["layers"][number][] = [];
  readonly #slot: Value;
  readonly #rotary: RotaryInputs;

  constructor(
    readonly graph: GraphBuilder,
    readonly inputs: PositionInputs,
  ) {
    const at = graph.op("Reshape", [inputs.last, graph.constant("int64", [2], [1, 1])]);
    const { cos, sin } = inputs.rotary;
    this.#rotary = { cos: graph.op("Gather", [cos, at]), sin: graph.op("Gather", [sin, at]) }; // [1, 1, rotaryDim / 2]
    this.#slot = graph.op("Cast", [inputs.last], { to: 7 }); // int64
  }

  splitHeads(projected: Value, heads: readonly number[], headDim: number): Value[] {
    const shape = this.graph.constant("int64", [4], [0, sum(heads), 1, headDim]);
    return this.graph.split(this.graph.op("Reshape", [projected, shape]), 1, heads);
  }

  attend(layer: number, sizes: AttentionSizes, { query, key, value }: QueryKeyValue): Value {
    const { graph } = this;
    const { heads, kvHeads, headDim, scale, softcap: cap } = sizes;
    const turned = (x: Value): Value => rotate(graph, x, this.#rotary, this.inputs.positions, headDim);
    const { keys, values } = buffers(graph, layer, sizes);
    this.layers.push({ keys, values });
    graph.op("TensorScatter", [keys.input, turned(key), this.#slot], { axis: -2 }, keys.output);
    graph.op("TensorScatter", [values.input, value, this.#slot], { axis: -2 }, values.output);
    const byGroup = graph.constant("int64", [4], [0, kvHeads, heads / kvHeads, headDim]);
    const queries = graph.op("Reshape", [turned(query), byGroup]);
    const scores = graph.microsoft("FusedMatMul", [queries, keys.output], { transB: 1, alpha: { float: scale } });
    const weights = graph.op("Softmax", [cap ? softcap(graph, scores, cap) : scores], { axis: -1 });
    const attended = graph.op("MatMul", [weights, values.output]); // [1, kvHeads, heads / kvHeads, headDim]
    return graph.op("Reshape", [attended, graph.constant("int64", [3], [1, 1, heads * headDim])]);
  }
}
