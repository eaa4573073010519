/** Tokens around one where a feature is strong. */
export interface FeatureContext {
  readonly ids: readonly number[];
  /** [ids] The feature's activation at each. */
  readonly values: readonly number[];
  /** Which of them has the largest. */
  readonly at: number;
}

/** The strongest contexts of one feature, the strongest first; of equal ones the first that came. */
export class TopContexts {
  readonly contexts: FeatureContext[] = [];
  readonly #sizes: number[] = [];

  constructor(private readonly most: number) {}

  /** Whether a context whose largest activation is `size` would be kept. */
  wants(size: number): boolean {
    return this.contexts.length < this.most || size > this.#sizes[this.most - 1]!;
  }

  /** Keeps it, unless its tokens are there already: texts repeat themselves. */
  add(context: FeatureContext): void {
    const isThere = this.contexts.some(
      ({ ids }) => ids.length === context.ids.length && ids.every((id, i) => id === context.ids[i]),
    );
    if (isThere) return;
    const size = context.values[context.at]!;
    const found = this.#sizes.findIndex((other) => other < size);
    const place = found < 0 ? this.contexts.length : found;
    this.contexts.splice(place, 0, context);
    this.#sizes.splice(place, 0, size);
    this.contexts.splice(this.most);
    this.#sizes.splice(this.most);
  }
}
