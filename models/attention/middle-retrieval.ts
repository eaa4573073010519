import { type ArchiveInputs, BATCH, type MiddleInputs } from "../graph-interface.js";
import type { GraphBuilder, Value } from "../onnx/graph.js";
import {
  type AttentionSizes,
  type CacheShape,
  placeOf,
  type QueryKeyValue,
  rotaryInputs,
  rotate,
  slotsOf,
  softcap,
} from "./attention.js";

/**
 * Middle retrieval of LM-Infinite (arXiv 2308.16137, section 3.3): each query head of one token
 * finds the k keys of largest score among all that have left the window, with the query rotated to one distance from all
 * of them, and they enter the softmax at that score, beside the keys in the cache. In layers with a lambda window only.
 * An archive whose keys are all hidden changes nothing, so from which layer on keys are retrieved is left to its owner.
 */
export class MiddleRetrieval {
  /** How many keys each query head retrieves. */
  readonly count: Value;
  /** Per geometry; null where the window is a trained one. */
  readonly geometries: readonly (MiddleInputs | null)[];

  constructor(
    readonly graph: GraphBuilder,
    readonly cache: CacheShape,
  ) {
    this.count = graph.hostInput("retrieved", "int64", [1]);
    this.geometries = cache.geometries.map(({ window, positions }, i) => {
      const prefix = `g${i}.`;
      if (window !== "lambda" || positions.kind === "alibi") return null;
      return {
        query: positions.kind === "rotary" ? rotaryInputs(graph, `${prefix}middle_`, 1, positions) : null,
        unused: graph.input(`${prefix}unused`, "float32", [BATCH, 1, 1, slotsOf(i)]),
      };
    });
  }

  /** Whether keys are retrieved in layers of a geometry. */
  covers(geometry: number): boolean {
    return this.geometries[geometry] !== null;
  }

  /**
   * Attention of a layer over the slots of its cache and what is retrieved from its archive.
   * @param qkv query before any rotation, keys and values as they stand in the cache
   * @param rotated the query at its own position
   * @returns [batch, heads, 1, headDim], and the inputs that the archive is bound to
   */
  attend(
    layer: number,
    sizes: AttentionSizes,
    { query, key: keys, value: values }: QueryKeyValue,
    rotated: Value,
  ): { readonly attended: Value; readonly archive: ArchiveInputs } {
    const { graph, cache, count } = this;
    const { heads, kvHeads, headDim } = sizes;
    const { geometry } = placeOf(cache, layer);
    const inputs = this.geometries[geometry];
    if (!inputs) throw new RangeError(`layer ${layer} retrieves nothing`);
    const [tokens, rows] = [`archived.${layer}`, `archive_rows.${layer}`];
    const archive: ArchiveInputs = {
      tokens,
      rows,
      keys: graph.input(`archive_keys.${layer}`, graph.activations, [BATCH, kvHeads, tokens, headDim]),
      values: graph.input(`archive_values.${layer}`, graph.activations, [rows, headDim]),
      hidden: graph.input(`archive_hidden.${layer}`, "float32", [BATCH, 1, 1, tokens]),
      firstRows: graph.input(`archive_first_rows.${layer}`, "int64", [heads, 1, 1]),
      keyHeads: Array.from({ length: heads }, (_, head) => Math.floor((head * kvHeads) / heads)),
    };
    const positions = cache.geometries[geometry]?.positions;
    const middle =
      inputs.query !== null && positions?.kind === "rotary"
        ? rotate(graph, query, inputs.query, positions, headDim)
        : query;
    const window = graph.op("Add", [this.#scores(rotated, keys, sizes), inputs.unused]);
    const candidates = graph.op("Add", [this.#scores(middle, archive.keys, sizes), archive.hidden]);
    const [scores = "", found = ""] = graph.multi("TopK", [candidates, count], 2, { axis: -1, sorted: 0 });
    const weights = graph.op("Softmax", [graph.op("Concat", [window, scores], { axis: -1 })], { axis: -1 });
    const cut = graph.op("Concat", [graph.op("Shape", [window], { start: 3, end: 4 }), count], { axis: 0 });
    const [ofWindow = "", ofMiddle = ""] = graph.multi("Split", [weights, cut], 2, { axis: -1 });
    const byKeyHead = graph.constant("int64", [4], [0, kvHeads, heads / kvHeads, -1]);
    const byHead = graph.constant("int64", [4], [0, heads, 1, headDim]);
    const seen = graph.op("MatMul", [graph.op("Reshape", [graph.toActivations(ofWindow), byKeyHead]), values]);
    const foundRows = graph.op("Add", [found, archive.firstRows]);
    const foundValues = graph.op("Reshape", [
      graph.op("Gather", [archive.values, foundRows], { axis: 0 }),
      graph.constant("int64", [4], [0, heads, -1, headDim]),
    ]);
    const retrieved = graph.op("MatMul", [graph.toActivations(ofMiddle), foundValues]);
    return { attended: graph.op("Add", [graph.op("Reshape", [seen, byHead]), retrieved]), archive };
  }

  /** [batch, heads, 1, keys] of float32. */
  #scores(query: Value, keys: Value, { heads, kvHeads, headDim, scale, softcap: cap }: AttentionSizes): Value {
    const { graph } = this;
    const grouped = graph.op("Reshape", [query, graph.constant("int64", [4], [0, kvHeads, heads / kvHeads, headDim])]);
    const products = graph.microsoft("FusedMatMul", [grouped, keys], { transB: 1, alpha: { float: scale } });
    const scores = graph.op("Reshape", [graph.toFloat32(products), graph.constant("int64", [4], [0, heads, 1, -1])]);
    return cap ? softcap(graph, scores, cap) : scores;
  }
}
