import { type ActivationsInterface, TOKENS } from "../graph-interface.js";
import type { Geometry, ModelShape } from "../model-shape.js";
import type { GraphBuilder, Value } from "../onnx/graph.js";
import {
  type AttentionSizes,
  addedToScores,
  alibiBias,
  attention,
  hiddenIn,
  type LayerAttention,
  type QueryKeyValue,
  rotaryInputs,
  rotate,
  sum,
} from "./attention.js";

/**
 * Causal attention over whole texts from their beginning, none longer than the window: nothing is kept of them, and
 * starting tokens stand where they were written.
 */
export class ContextAttention implements LayerAttention {
  readonly geometries: ActivationsInterface["geometries"];
  /** [1, 1, tokens, 1] of float32: 0, 1, 2, ... */
  readonly places: Value;
  /** Of each geometry, what is added to the scores: [1, 1, tokens, tokens], with ALiBi [1, heads, tokens, tokens]. */
  readonly #masks: readonly Value[];

  constructor(
    readonly graph: GraphBuilder,
    readonly shape: Pick<ModelShape, "geometries" | "layerGeometries">,
  ) {
    this.places = graph.input("places", "float32", [1, 1, TOKENS, 1]);
    this.geometries = shape.geometries.map(({ positions }, i) => ({
      rotary: positions.kind === "rotary" ? rotaryInputs(graph, `g${i}.`, TOKENS, positions) : null,
    }));
    const keys = graph.op("Reshape", [this.places, graph.constant("int64", [4], [1, 1, 1, -1])]);
    const distances = graph.op("Sub", [this.places, keys]);
    this.#masks = shape.geometries.map((geometry) => this.#mask(geometry, distances));
  }

  splitHeads(projected: Value, heads: readonly number[], headDim: number): Value[] {
    const { graph } = this;
    const shape = graph.constant("int64", [4], [0, 0, sum(heads), headDim]);
    const byHead = graph.op("Transpose", [graph.op("Reshape", [projected, shape])], { perm: [0, 2, 1, 3] });
    return graph.split(byHead, 1, heads);
  }

  attend(layer: number, sizes: AttentionSizes, { query, key, value }: QueryKeyValue): Value {
    const { graph, shape } = this;
    const geometry = shape.layerGeometries[layer] ?? 0;
    const positions = shape.geometries[geometry]?.positions;
    const rotary = this.geometries[geometry]?.rotary ?? null;
    const turned = (x: Value): Value =>
      rotary === null || positions?.kind !== "rotary" ? x : rotate(graph, x, rotary, positions, sizes.headDim);
    const attended = attention(graph, [turned(query), turned(key), value, this.#masks[geometry] ?? ""], sizes);
    const byToken = graph.op("Transpose", [attended], { perm: [0, 2, 1, 3] });
    return graph.op("Reshape", [byToken, graph.constant("int64", [3], [0, 0, sizes.heads * sizes.headDim])]);
  }

  #mask({ window, positions }: Geometry, distances: Value): Value {
    const { graph } = this;
    const number = (value: number): Value => graph.constant("float32", [], [value]);
    const later = graph.op("Less", [distances, number(0)]);
    const unseen =
      window === "lambda" ? later : graph.op("Or", [later, graph.op("GreaterOrEqual", [distances, number(window)])]);
    const hidden = number(hiddenIn(graph.activations));
    if (positions.kind !== "alibi") return addedToScores(graph, graph.op("Where", [unseen, hidden, number(0)]));
    return graph.op("Where", [
      unseen,
      graph.constant(graph.activations, [], [hiddenIn(graph.activations)]),
      alibiBias(graph, distances, positions.slopes),
    ]);
  }
}
