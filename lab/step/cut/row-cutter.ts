import { FORCED_LAST } from "../../../models/sae/top-afa.js";
import {
  featureAt,
  gatherActivations,
  gatherFeatures,
  gatherSizes,
  selectAll,
  selectLargest,
  weightAt,
} from "./candidates.js";
import type { CutArrays, CutSizes } from "./cut-memory.js";

/** What is kept of a row. */
export type RowRule =
  /** The cut of top-AFA (`topAfaPlaces`), by activation * |decoder row|. */
  | { readonly kind: "top-afa" }
  /** The k largest activations. */
  | { readonly kind: "topk"; readonly k: number }
  /** All activations that are not below a threshold. */
  | { readonly kind: "threshold"; readonly threshold: number };

/** Cuts rows of activations that are not negative, in memory that several threads share. */
export class RowCutter {
  constructor(
    readonly arrays: CutArrays,
    readonly sizes: CutSizes,
  ) {}

  /** Writes what is kept of a row, and what is counted of it. */
  cut(row: number, rule: RowRule): void {
    const { counts, squares, least, places, fired } = this.arrays;
    const activations = this.#row("activations", row);
    const target = this.#row("kept", row);
    target.fill(0);
    const count = this.#select(row, activations, rule);
    let [sum, smallest] = [0, Number.POSITIVE_INFINITY];
    for (let i = 0; i < count; i++) {
      const feature = featureAt(i);
      const value = activations[feature]!;
      target[feature] = value;
      fired[feature] = 1;
      sum += value * value;
      smallest = Math.min(smallest, value);
    }
    squares[row] = sum;
    counts[row] = count;
    least[row] = count === 0 ? 0 : smallest;
    if (rule.kind !== "top-afa") places[row] = count;
  }

  /** Writes the activations of the first `dead` of `deadFeatures` in a row, of more than `most` the largest. */
  revive(row: number, dead: number, most: number): void {
    const activations = this.#row("activations", row);
    const target = this.#row("dead", row);
    target.fill(0);
    const count = gatherFeatures(activations, this.arrays.deadFeatures.subarray(0, dead));
    const selected = selectUpTo(count, most);
    for (let i = 0; i < selected; i++) target[featureAt(i)] = activations[featureAt(i)]!;
  }

  #row(name: "activations" | "kept" | "dead", row: number): Float32Array {
    const { dSae } = this.sizes;
    return this.arrays[name].subarray(row * dSae, (row + 1) * dSae);
  }

  /** @returns how many are selected */
  #select(row: number, activations: Float32Array, rule: RowRule): number {
    switch (rule.kind) {
      case "top-afa":
        return this.#selectTopAfa(row, activations);
      case "topk":
        return selectUpTo(gatherActivations(activations, 0), rule.k);
      case "threshold": {
        const count = gatherActivations(activations, rule.threshold);
        selectAll(count);
        return count;
      }
    }
  }

  #selectTopAfa(row: number, activations: Float32Array): number {
    const { dSae } = this.sizes;
    const { norms, lengths, places } = this.arrays;
    const { count, total } = gatherSizes(activations, norms);
    const norm = lengths[row]!;
    const distance = (squares: number) => Math.abs(Math.sqrt(squares) - norm);
    const forced = Math.abs(FORCED_LAST - norm);
    // What is not reached is nearest where the last feature is taken; the places behind it hold zeros.
    let [cut, nearest] = [Math.max(1, count), distance(total)];
    if (count > 0 && norm * norm <= total) {
      const { selected, before } = selectLargest(count, norm * norm);
      const reached = selected === dSae ? forced : distance(before + weightAt(selected - 1));
      const isBefore = selected > 1 && distance(before) <= reached;
      [cut, nearest] = isBefore ? [selected - 1, distance(before)] : [selected, reached];
    } else selectAll(count);
    if (forced < nearest) {
      cut = dSae;
      selectAll(count);
    }
    places[row] = cut;
    return Math.min(cut, count);
  }
}

function selectUpTo(count: number, most: number): number {
  if (count > most) return selectLargest(count, most).selected;
  selectAll(count);
  return count;
}
