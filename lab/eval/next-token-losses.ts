import { logSumExp } from "./log-sum-exp.js";

/** Losses in nat, context after context. */
export interface Losses {
  /** -log p of the next token, of each counted position but the last of a context, which has none. */
  readonly ce: Float64Array;
  /** KL divergence from the clean distribution, sum of p_clean (log p_clean - log p), of each counted position. */
  readonly kl: Float64Array;
}

/**
 * What the model predicts in some contexts of one length when nothing is done to it, to compare other runs of them with. It
 * holds one number for each counted position and token of the vocabulary.
 */
export class CleanPredictions {
  /** As of `Losses`. */
  readonly ce: Float64Array;
  /** Of each context [positions, vocab], in the memory of the logits. */
  readonly #probabilities: readonly Float32Array[];
  /** [contexts * positions]: sums of p log p, and of p, as these are rounded. */
  readonly #entropies: Float64Array;
  readonly #masses: Float64Array;
  /** Counted positions of a context. */
  readonly #positions: number;

  /**
   * @param logits of each context's counted positions, its last ones: [positions, vocab]. They are written over
   * @param contexts their ids
   */
  constructor(
    logits: readonly Float32Array[],
    private readonly vocab: number,
    private readonly contexts: readonly ArrayLike<number>[],
  ) {
    this.#positions = (logits[0]?.length ?? 0) / vocab;
    const rows = contexts.length * this.#positions;
    this.#probabilities = logits;
    this.#entropies = new Float64Array(rows);
    this.#masses = new Float64Array(rows);
    this.ce = this.#each(logits, (row, i, log) => {
      let [entropy, mass] = [0, 0];
      for (let id = 0; id < vocab; id++) {
        const logarithm = row[id]! - log;
        row[id] = Math.exp(logarithm);
        entropy += row[id]! * logarithm;
        mass += row[id]!;
      }
      this.#entropies[i] = entropy;
      this.#masses[i] = mass;
    });
  }

  /** @param logits of the same positions in another run, as they come */
  compare(logits: readonly Float32Array[]): Losses {
    const kl = new Float64Array(this.#entropies.length);
    const ce = this.#each(logits, (row, i, log, clean) => {
      let cross = 0;
      for (let id = 0; id < row.length; id++) cross += clean[id]! * row[id]!;
      kl[i] = this.#entropies[i]! - cross + log * this.#masses[i]!;
    });
    return { ce, kl };
  }

  /** @param visit is given the logits of each position, the logarithm of the sum of their exponentials, and its probabilities */
  #each(
    logits: readonly Float32Array[],
    visit: (row: Float32Array, position: number, log: number, clean: Float32Array) => void,
  ): Float64Array {
    const { vocab } = this;
    const positions = this.#positions;
    const ce = new Float64Array(this.contexts.length * Math.max(0, positions - 1));
    let written = 0;
    for (const [context, values] of logits.entries()) {
      const ids = this.contexts[context]!;
      for (let position = 0; position < positions; position++) {
        const here = [position * vocab, (position + 1) * vocab] as const;
        const row = values.subarray(...here);
        const log = logSumExp(row);
        if (position < positions - 1) ce[written++] = log - row[ids[ids.length - positions + position + 1]!]!;
        visit(row, context * positions + position, log, this.#probabilities[context]!.subarray(...here));
      }
    }
    return ce;
  }
}
