import type { Codes } from "../../runtime/saes/sae-coder.js";
import { ActivationHistogram } from "./activation-histogram.js";
import { type FeatureContext, TopContexts } from "./top-contexts.js";

/** Of the activations above 0. */
const QUANTILES = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99] as const;

/** How much is kept of each feature. */
export interface FeatureDetail {
  /** Contexts kept. */
  readonly contexts: number;
  /** Tokens of each, at most. */
  readonly window: number;
}

/** What is known of a feature, as a line of features.jsonl. */
export interface FeatureLine {
  readonly index: number;
  /** Share of tokens at which it is active. */
  readonly density: number;
  /** Its largest activation; 0 where it was never active. */
  readonly max: number;
  /** Of its activations above 0, by share; empty where it was never active. */
  readonly quantiles: Readonly<Record<string, number>>;
  /** Where it was strongest, at most once in each context that was run. */
  readonly top: readonly FeatureContext[];
}

/**
 * Statistics of all features of an SAE, gathered context by context in memory that does not grow with the text: about 2 kB a
 * feature for its histogram, and its strongest contexts.
 */
export class FeatureStatistics {
  #tokens = 0;
  readonly #features: readonly { readonly histogram: ActivationHistogram; readonly top: TopContexts }[];
  /** [dSae] The largest activation of each feature in the context being read, and its row. */
  readonly #largest: Float32Array;
  readonly #rows: Uint32Array;

  constructor(
    readonly dSae: number,
    private readonly detail: FeatureDetail,
  ) {
    this.#features = Array.from({ length: dSae }, () => ({
      histogram: new ActivationHistogram(),
      top: new TopContexts(detail.contexts),
    }));
    this.#largest = new Float32Array(dSae);
    this.#rows = new Uint32Array(dSae);
  }

  /**
   * Counts the tokens of a context.
   * @param ids of the tokens that count, as rows [first, first + ids.length) of the codes hold them
   */
  add(ids: ArrayLike<number>, codes: Codes, first: number): void {
    const { starts, features, activations } = codes;
    const seen: number[] = [];
    for (let row = first; row < first + ids.length; row++)
      for (let at = starts[row]!; at < starts[row + 1]!; at++) {
        const [feature, value] = [features[at]!, activations[at]!];
        this.#features[feature]!.histogram.add(value);
        if (this.#largest[feature] === 0) seen.push(feature);
        if (value <= this.#largest[feature]!) continue;
        this.#largest[feature] = value;
        this.#rows[feature] = row;
      }
    for (const feature of seen) {
      const { top } = this.#features[feature]!;
      if (top.wants(this.#largest[feature]!)) top.add(this.#around(feature, ids, codes, first));
      this.#largest[feature] = 0;
    }
    this.#tokens += ids.length;
  }

  /** A line for each feature, in their order. */
  *lines(): Generator<FeatureLine> {
    for (const [index, { histogram, top }] of this.#features.entries())
      yield {
        index,
        density: this.#tokens === 0 ? 0 : rounded(histogram.count / this.#tokens),
        max: rounded(histogram.max),
        quantiles:
          histogram.count === 0 ? {} : Object.fromEntries(QUANTILES.map((q) => [q, rounded(histogram.quantile(q))])),
        top: top.contexts,
      };
  }

  /** The tokens around the feature's largest activation: about two thirds of the window before it. */
  #around(
    feature: number,
    ids: ArrayLike<number>,
    { starts, features, activations }: Codes,
    first: number,
  ): FeatureContext {
    const { window } = this.detail;
    const peak = this.#rows[feature]! - first;
    const from = Math.max(0, Math.min(peak - Math.floor((2 * window) / 3), ids.length - window));
    const to = Math.min(ids.length, from + window);
    const values = Array.from({ length: to - from }, (_, i) => {
      const row = first + from + i;
      const at = features.subarray(starts[row], starts[row + 1]).indexOf(feature);
      return at < 0 ? 0 : rounded(activations[starts[row]! + at]!);
    });
    return { ids: Array.from(values, (_, i) => ids[from + i]!), values, at: peak - from };
  }
}

/** To four digits, which is more than anyone looks at and keeps the file small. */
const rounded = (value: number): number => Number(value.toPrecision(4));
