import type { DescribedModel } from "../../models/architectures/architecture.js";
import type { AttentionSizes, LayerAttention, QueryKeyValue } from "../../models/attention.js";
import { Forward } from "../../models/forward.js";
import type { Geometry, Positions } from "../../models/graph-interface.js";
import type { BuiltGraph, GraphOptions } from "../../models/graphs.js";
import { type Dimension, GraphBuilder, type Value } from "../../models/onnx/graph.js";
import { WeightPlan } from "../../models/weights/weight-plan.js";

/** Names of a graph with full attention: any number of tokens of one text, keys and values appended in place. */
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
  readonly rotary: { readonly cos: Value; readonly sin: Value };
  /** Per layer [1, kvHeads, slots, headDim]; the output is the input's own memory. */
  readonly layers: readonly { readonly keys: InPlace; readonly values: InPlace }[];
}

interface InPlace {
  readonly input: Value;
  readonly output: Value;
}

/**
 * Ordinary attention over everything that was said, as fast as ONNX Runtime has it: GroupQueryAttention of com.microsoft,
 * which rotates, appends to the cache and attends in one node, and whose cost follows the text and not the buffer.
 */
class FullAttention implements LayerAttention {
  readonly layers: FullInterface["layers"][number][] = [];
  readonly last: Value;
  readonly total: Value;
  readonly rotary: FullInterface["rotary"];
  readonly #positions: Extract<Positions, { kind: "rotary" }>;

  /** @throws RangeError if the model is not one that GroupQueryAttention does whole: rotary positions, one geometry. */
  constructor(
    readonly graph: GraphBuilder,
    geometries: readonly Geometry[],
  ) {
    const [only, ...others] = geometries;
    if (only === undefined || others.length > 0 || only.window !== "lambda" || only.positions.kind !== "rotary")
      throw new RangeError("full attention needs rotary positions and layers that all see the whole text");
    this.#positions = only.positions;
    this.last = graph.input("last", "int32", [1]);
    this.total = graph.input("total", "int32", [1]);
    const table = ["positions", only.positions.rotaryDim / 2];
    this.rotary = { cos: graph.input("cos", "float32", table), sin: graph.input("sin", "float32", table) };
  }

  /** Not cut at all: the node takes queries, keys and values side by side, as the projection gives them. */
  splitHeads(projected: Value): Value[] {
    return [projected];
  }

  attend(layer: number, { heads, kvHeads, headDim, scale, softcap }: AttentionSizes, { query }: QueryKeyValue): Value {
    const { graph } = this;
    const buffer: Dimension[] = [1, kvHeads, "slots", headDim];
    const inPlace = (name: string): InPlace => ({
      input: graph.input(name, "float32", buffer),
      output: graph.output(`${name}.out`, "float32", buffer),
    });
    const [keys, values] = [inPlace(`keys.${layer}`), inPlace(`values.${layer}`)];
    this.layers.push({ keys, values });
    return graph.microsoft(
      "GroupQueryAttention",
      [query, "", "", keys.input, values.input, this.last, this.total, this.rotary.cos, this.rotary.sin],
      {
        num_heads: heads,
        kv_num_heads: kvHeads,
        scale: { float: scale },
        do_rotary: 1,
        ...(this.#positions.interleaved ? { rotary_interleaved: 1 } : {}),
        ...(softcap ? { softcap: { float: softcap } } : {}),
      },
      [keys.output, values.output],
    );
  }
}

/** One graph for prompts and for single tokens. Its weights have the names of the model's other graphs. */
export function buildFull(
  model: DescribedModel,
  options: Pick<GraphOptions, "precision" | "dtypes" | "weightsFile">,
): Omit<BuiltGraph<FullInterface>, "hooks"> {
  const graph = new GraphBuilder();
  const ids = graph.input("ids", "int64", [1, "tokens"]);
  const wanted = graph.input("wanted", "int64", ["wanted"]);
  const attention = new FullAttention(graph, model.shape.geometries);
  const { hiddenSize } = model.shape;
  const none = { taps: new Set<never>(), edits: new Set<never>(), hiddenSize };
  model.forward(new Forward(graph, new WeightPlan(), attention, ids, wanted, { ...options, ...none }));
  const { last, total, rotary, layers } = attention;
  return { interface: { ids, wanted, logits: "logits", last, total, rotary, layers }, bytes: graph.serialize("full") };
}
