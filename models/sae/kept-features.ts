import { type Activating, Activator, type ActiveFeatures } from "./active-features.js";
import type { ChosenActivation } from "./chosen-activation.js";
import { rankLargest } from "./ranking.js";
import { topAfaPlaces } from "./top-afa.js";

/**
 * The features of one row that are kept: the first `count` of each array, of features of one size those with lower numbers
 * first.
 */
export interface KeptFeatures {
  readonly count: number;
  readonly features: Uint32Array;
  readonly activations: Float32Array;
  /** activation * |decoder row| */
  readonly sizes: Float32Array;
  /** Sum of the squares of the kept sizes. */
  readonly squares: number;
  /** The cut of top-AFA: how many of all dSae places are kept, those that hold 0 included. null under any other rule. */
  readonly k: number | null;
}

export const NOTHING_KEPT: KeptFeatures = {
  count: 0,
  features: new Uint32Array(),
  activations: new Float32Array(),
  sizes: new Float32Array(),
  squares: 0,
  k: null,
};

/** Activates and cuts rows of products, one after the other, in the same memory. */
export class FeatureKeeper {
  readonly #sae: Activating;
  readonly #activator: Activator;
  /** Of kept features among the active ones. */
  readonly #places: Uint32Array;
  readonly #features: Uint32Array;
  readonly #activations: Float32Array;
  readonly #sizes: Float32Array;

  constructor(sae: Activating) {
    this.#sae = sae;
    this.#activator = new Activator(sae);
    this.#places = new Uint32Array(sae.dSae);
    this.#features = new Uint32Array(sae.dSae);
    this.#activations = new Float32Array(sae.dSae);
    this.#sizes = new Float32Array(sae.dSae);
  }

  /** [dSae] input W_enc, to be filled by the caller; `keep` works in it. */
  get row(): Float32Array {
    return this.#activator.row;
  }

  /** What is kept of `row`, valid until the next call. @param norm of the input */
  keep(chosen: ChosenActivation, norm: number): KeptFeatures {
    const active = this.#activator.activate();
    const { count, k } = this.#cut(active, chosen, norm);
    const [places, features, activations, sizes] = [this.#places, this.#features, this.#activations, this.#sizes];
    const { features: from, activations: values, sizes: lengths } = active;
    let squares = 0;
    for (let i = 0; i < count; i++) {
      const place = places[i]!;
      const size = lengths[place]!;
      features[i] = from[place]!;
      activations[i] = values[place]!;
      sizes[i] = size;
      squares += size * size;
    }
    return { count, features, activations, sizes, squares, k };
  }

  /** Writes the places of kept features. @returns how many */
  #cut(active: ActiveFeatures, chosen: ChosenActivation, norm: number): Pick<KeptFeatures, "count" | "k"> {
    const { activation, dSae } = this.#sae;
    const rule = chosen.kind === "native" ? activation : chosen;
    switch (rule.kind) {
      case "top-afa":
        return topAfa(active, dSae, norm, this.#places);
      case "top-k":
        return { count: topK(active, rule.k, this.#places), k: null };
      case "group-max":
        return { count: groupMax(active, dSae / rule.groups, this.#places), k: null };
      default:
        return { count: all(active, this.#places), k: null };
    }
  }
}

function topAfa(
  active: ActiveFeatures,
  width: number,
  norm: number,
  out: Uint32Array,
): Pick<KeptFeatures, "count" | "k"> {
  const { sizes, count } = active;
  const reached = (_: number, squares: number) => Math.sqrt(squares) >= norm || !Number.isFinite(norm);
  const { places, squares, next } = rankLargest(sizes, count, reached, out);
  let found = places;
  const k = topAfaPlaces(width, norm, { places, sum: squares }, () => {
    const place = next();
    if (place === undefined) return undefined;
    out[found++] = place;
    return sizes[place]! * sizes[place]!;
  });
  return k === null ? { count: all(active, out), k: width } : { count: Math.min(k, found), k };
}

function topK({ activations, count }: ActiveFeatures, k: number, out: Uint32Array): number {
  const { places, next } = rankLargest(activations, count, (largest) => largest >= k, out);
  const last: number[] = [];
  for (let place = next(); place !== undefined && places + last.length < k; place = next()) last.push(place);
  last.sort((a, b) => a - b);
  const found = places + last.length;
  // Both are rising, and so are they together, merged from the end.
  let [from, to] = [places - 1, found];
  for (let place = last.pop(); place !== undefined; place = last.pop()) {
    while (from >= 0 && out[from]! > place) out[--to] = out[from--]!;
    out[--to] = place;
  }
  return found;
}

/** The largest of each group, of equal ones the lowest feature. */
function groupMax({ features, activations, count }: ActiveFeatures, size: number, out: Uint32Array): number {
  let [found, group] = [0, -1];
  for (let place = 0; place < count; place++) {
    const here = Math.floor(features[place]! / size);
    if (here > group) {
      out[found++] = place;
      group = here;
    } else if (activations[place]! > activations[out[found - 1]!]!) out[found - 1] = place;
  }
  return found;
}

function all({ count }: ActiveFeatures, out: Uint32Array): number {
  for (let place = 0; place < count; place++) out[place] = place;
  return count;
}
