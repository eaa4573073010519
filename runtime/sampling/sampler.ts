import { randomBytes } from "node:crypto";
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plusFromState } from "pure-rand/generator/xoroshiro128plus";
import type { SamplingParams } from "../contract/generation.js";
import type { Candidates } from "./candidates.js";
import { finiteMaximum, NoTokenLeft } from "./finite-logits.js";
import type { TokenCounts } from "./token-counts.js";

/** Below this temperature the most likely token is taken (as in vLLM). */
const GREEDY = 1e-5;

/**
 * Chooses tokens for one sequence. In this order: repetition penalty, presence and frequency penalties, logit bias,
 * allowed and forbidden ids, temperature, min_p and top_k, top_p, draw. Greedy takes the largest of the penalised and biased logits.
 * (vLLM adds the bias before the penalties: that differs only where a biased token is under a repetition penalty.)
 */
export class Sampler {
  readonly #random: ReturnType<typeof xoroshiro128plusFromState>;
  readonly #penalises: boolean;

  /**
   * @param candidates scratch of the vocabulary's size, shared by the samplers of a thread
   * @param state where an earlier sampler stood (`state()`); left out: `params.seed` decides
   */
  constructor(
    private readonly params: SamplingParams,
    private readonly candidates: Candidates,
    state: readonly number[] = seeded(params.seed),
  ) {
    this.#random = xoroshiro128plusFromState(state);
    this.#penalises = params.repetitionPenalty !== 1 || params.presencePenalty !== 0 || params.frequencyPenalty !== 0;
  }

  /** Whether `pick` looks at the history at all. */
  get needsHistory(): boolean {
    return this.#penalises;
  }

  /**
   * The next token.
   * @param logits [vocab], raw; not changed
   * @param history the tokens that penalties count; null: none
   * @param forbidden ids that may not be drawn (end tokens before min_tokens, ends of bad words)
   * @throws NotFiniteLogits where the logits hold NaN or +Infinity, or rule out every token; NoTokenLeft where what is
   * allowed and what is forbidden do.
   */
  pick(logits: Float32Array, history: TokenCounts | null, forbidden: readonly number[] = []): number {
    const adjusted = this.#adjust(logits, history, forbidden);
    const maximum = finiteMaximum(adjusted);
    if (this.params.temperature < GREEDY) return adjusted.indexOf(maximum);
    this.candidates.choose(adjusted, maximum, this.params);
    return this.candidates.at(uniformFloat64(this.#random));
  }

  /** State of the random numbers, as plain data. */
  state(): readonly number[] {
    return this.#random.getState();
  }

  #adjust(raw: Float32Array, history: TokenCounts | null, forbidden: readonly number[]): Float32Array {
    const { logitBias, allowedTokenIds } = this.params;
    const masks = allowedTokenIds !== undefined || forbidden.length > 0;
    if (!(this.#penalises && history) && logitBias.length === 0 && !masks) return raw;
    const { logits } = this.candidates;
    logits.set(raw);
    if (this.#penalises && history) this.#penalise(logits, history);
    for (const [id, bias] of logitBias) logits[id]! += bias;
    if (masks) mask(logits, allowedTokenIds, forbidden);
    return logits;
  }

  #penalise(logits: Float32Array, history: TokenCounts): void {
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = this.params;
    for (let slot = 0; slot < history.size; slot++) {
      const id = history.id(slot);
      const occurrences = history.inOutput(slot);
      let logit = logits[id]!;
      logit = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      if (occurrences > 0) logit -= presencePenalty + frequencyPenalty * occurrences;
      logits[id] = logit;
    }
  }
}

/** Rules out what is not allowed, or forbidden. Logits that are not finite are noticed before they are ruled out. */
function mask(logits: Float32Array, allowed: readonly number[] | undefined, forbidden: readonly number[]): void {
  finiteMaximum(logits);
  if (allowed !== undefined) {
    const kept = allowed.map((id) => logits[id]!);
    logits.fill(Number.NEGATIVE_INFINITY);
    for (const [i, id] of allowed.entries()) logits[id] = kept[i]!;
  }
  for (const id of forbidden) logits[id] = Number.NEGATIVE_INFINITY;
  if (!logits.some((logit) => logit > Number.NEGATIVE_INFINITY))
    throw new NoTokenLeft("allowed_token_ids, bad_words and min_tokens leave no token that could come next");
}

/**
 * Different seeds give different states (two words are bijections of the halves), and neighbouring ones unrelated numbers
 * (the other two, whose sum is the first number drawn, mix both).
 */
function seeded(seed: number | undefined): number[] {
  if (seed === undefined) {
    const bytes = randomBytes(16);
    return [0, 4, 8, 12].map((at) => bytes.readInt32LE(at));
  }
  const low = mix(seed % 2 ** 32);
  const high = mix(Math.floor(seed / 2 ** 32) ^ 0x5bd1e995);
  return [low, mix(low ^ high), high, mix(low + high + 0x9e3779b9)];
}

/** The finaliser of MurmurHash3, a bijection of 32-bit words. */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
