import type { SamplingParams } from "../contract/generation.js";
import { BadWords } from "./bad-words.js";
import type { Candidates } from "./candidates.js";
import { Sampler } from "./sampler.js";
import { TokenCounts } from "./token-counts.js";

/** Where a text's random numbers, penalties and bad words stand, as plain data; constant in size however long the text. */
export interface TokenChooserState {
  readonly random: readonly number[];
  /** null: nothing is penalised. */
  readonly counted: Int32Array<ArrayBuffer> | null;
  /** Generated tokens that a bad word may begin with. */
  readonly recent: readonly number[];
}

/** Draws the tokens of one text, and remembers what the next draw depends on. */
export class TokenChooser {
  readonly #sampler: Sampler;
  readonly #counts: TokenCounts | null;
  readonly #badWords: BadWords;

  /**
   * @param window tokens that penalties count
   * @param state where an earlier instance with the same parameters stood; left out: before the first token
   */
  constructor(
    params: SamplingParams,
    candidates: Candidates,
    private readonly window: number,
    state?: TokenChooserState,
  ) {
    this.#sampler = new Sampler(params, candidates, state?.random);
    this.#counts = this.#sampler.needsHistory ? new TokenCounts(window, state?.counted ?? undefined) : null;
    this.#badWords = new BadWords(params.badWords ?? [], state?.recent);
  }

  /** Penalties count the last `window` tokens of the prompt, too. */
  readPrompt(prompt: Int32Array): void {
    if (this.#counts === null) return;
    for (const id of prompt.subarray(Math.max(0, prompt.length - this.window))) this.#counts.pushPrompt(id);
  }

  /**
   * The next token.
   * @param logits [vocab], raw; not changed
   * @param forbidden ids that may not be drawn, besides the ends of bad words
   * @throws NotFiniteLogits and NoTokenLeft as `Sampler.pick`
   */
  next(logits: Float32Array, forbidden: Iterable<number>): number {
    const token = this.#sampler.pick(logits, this.#counts, [...this.#badWords.next(), ...forbidden]);
    this.#counts?.pushOutput(token);
    this.#badWords.push(token);
    return token;
  }

  state(): TokenChooserState {
    return {
      random: this.#sampler.state(),
      counted: this.#counts?.state() ?? null,
      recent: this.#badWords.state(),
    };
  }
}
