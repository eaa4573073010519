import type { Losses } from "./next-token-losses.js";

/** The mean of a figure over tokens, and over those of each context by itself. */
export class TokenMeans {
  readonly byContext: number[] = [];
  count = 0;
  #sum = 0;

  /** @param values of as many contexts, equally many of each, context after context */
  add(values: Float64Array, contexts: number): void {
    const each = values.length / contexts;
    for (let context = 0; context < contexts; context++) {
      let sum = 0;
      for (let i = context * each; i < (context + 1) * each; i++) sum += values[i]!;
      this.byContext.push(sum / each);
      this.#sum += sum;
    }
    this.count += values.length;
  }

  get mean(): number {
    return this.#sum / this.count;
  }
}

/** Mean losses in nat, over all counted tokens and over those of each context. */
export interface MeanLosses {
  /** Of the positions that have a next token. */
  readonly ce: number;
  readonly kl: number;
  readonly byContext: { readonly ce: readonly number[]; readonly kl: readonly number[] };
}

export class LossMeans {
  readonly #ce = new TokenMeans();
  readonly #kl = new TokenMeans();

  /** @param contexts how many these are of */
  add({ ce, kl }: Losses, contexts: number): void {
    this.#ce.add(ce, contexts);
    this.#kl.add(kl, contexts);
  }

  get result(): MeanLosses {
    const [ce, kl] = [this.#ce, this.#kl];
    return { ce: ce.mean, kl: kl.mean, byContext: { ce: ce.byContext, kl: kl.byContext } };
  }
}
