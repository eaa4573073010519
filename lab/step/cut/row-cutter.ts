import { FORCED_LAST } from "../../../models/sae/top-afa.js";
import {
  featureAt,
  gatherActivations,
  gatherFeatures,
  gatherSizes,
  type Selected,
  type Sizes,
  selectAll,
  selectLargest,
  valueAt,
  weightAt,
} from "./candidates.js";
import type { CutArrays, CutSizes } from "./cut-memory.js";

/**
 * What is kept of a row. `hint`: activations below are left out at first, and looked at where it turns out that one of them
 * could be kept; it changes no result.
 */
export type RowRule =
  /** The cut of top-AFA (`topAfaPlaces`), by activation * |decoder row|; no row of the decoder is longer than `longest`. */
  | { readonly kind: "top-afa"; readonly hint: number; readonly longest: number }
  /** The k largest activations. */
  | { readonly kind: "topk"; readonly k: number; readonly hint: number }
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
        return this.#selectTopAfa(row, activations, rule);
      case "topk": {
        const large = rule.hint > 0 ? gatherActivations(activations, rule.hint) : 0;
        return selectUpTo(large < rule.k ? gatherActivations(activations, 0) : large, rule.k);
      }
      case "threshold": {
        const count = gatherActivations(activations, rule.threshold);
        selectAll(count);
        return count;
      }
    }
  }

  #selectTopAfa(row: number, activations: Float32Array, { hint, longest }: RowRule & { kind: "top-afa" }): number {
    const { dSae } = this.sizes;
    const { norms, lengths, places } = this.arrays;
    const norm = lengths[row]!;
    let sizes = gatherSizes(activations, norms, hint);
    let reached = selectSquares(sizes, norm * norm);
    // What was left out is shorter than this.
    if (hint > 0 && (reached === null || valueAt(reached.selected - 1) < hint * longest)) {
      sizes = gatherSizes(activations, norms, 0);
      reached = selectSquares(sizes, norm * norm);
    }
    // Where all features are active, the smallest stands at the place whose length is FORCED_LAST, reached or not.
    if (reached === null && sizes.count === dSae) reached = selectLargest(dSae, Number.POSITIVE_INFINITY);
    const distance = (squares: number) => Math.abs(Math.sqrt(squares) - norm);
    const forced = Math.abs(FORCED_LAST - norm);
    // Where the norm is not reached, the last feature is nearest; the places behind it hold zeros.
    let [cut, nearest] = [Math.max(1, sizes.count), distance(sizes.total)];
    if (reached === null) selectAll(sizes.count);
    else {
      const { selected, before } = reached;
      const beyond = selected === dSae ? forced : distance(before + weightAt(selected - 1));
      const isBefore = selected > 1 && distance(before) <= beyond;
      [cut, nearest] = isBefore ? [selected - 1, distance(before)] : [selected, beyond];
    }
    places[row] = nearest <= forced ? cut : dSae;
    if (nearest <= forced) return Math.min(cut, sizes.count);
    const { count } = gatherSizes(activations, norms, 0);
    selectAll(count);
    return count;
  }
}

/** The first features whose squares sum up to a target; null where all together do not. */
const selectSquares = ({ count, total }: Sizes, target: number): Selected | null =>
  count > 0 && target <= total ? selectLargest(count, target) : null;

function selectUpTo(count: number, most: number): number {
  if (count > most) return selectLargest(count, most).selected;
  selectAll(count);
  return count;
}
