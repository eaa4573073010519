import { largest } from "../../models/largest.js";
import { nextAtLeast } from "../../models/next-at-least.js";
import type { SamplingParams } from "../contract/generation.js";
import { BIN_WIDTH, BINS, binOf, decay, decayAll, massByDepth } from "./decay.js";
import { nucleus } from "./nucleus.js";

/**
 * The tokens that may be drawn, with weights. One instance serves all samplers of a thread in turn: it is scratch memory of
 * 20 bytes per token of the vocabulary, and nothing is allocated per token drawn.
 */
export class Candidates {
  /** A copy of the logits that may be written to. [vocab] */
  readonly logits: Float32Array;
  /** Probabilities of the first `count` candidates, times `total`. */
  readonly weights: Float64Array;
  total = 0;
  count = 0;
  readonly #chosen: Int32Array;
  readonly #all: Int32Array;
  readonly #mass = new Float64Array(BINS);
  #ids: Int32Array;

  constructor(readonly vocabSize: number) {
    this.logits = new Float32Array(vocabSize);
    this.weights = new Float64Array(vocabSize);
    this.#chosen = new Int32Array(vocabSize);
    this.#all = Int32Array.from({ length: vocabSize }, (_, id) => id);
    this.#ids = this.#all;
  }

  /** Token ids of the first `count` candidates. */
  get ids(): Int32Array {
    return this.#ids;
  }

  /**
   * Chooses the candidates: temperature, then min_p and top_k (their order does not matter), then top_p of what is left,
   * renormalised. That is vLLM's order (vllm/v1/sample/sampler.py). Of equally likely tokens the lower ids stay.
   * @param logits [vocab], finite or -Infinity
   * @param maximum their largest
   */
  choose(logits: Float32Array, maximum: number, { temperature, topK, topP, minP }: SamplingParams): void {
    const scale = 1 / temperature;
    const share = Math.max(topP, Number.EPSILON);
    const floor = minP > 0 ? maximum + temperature * Math.log(minP) : Number.NEGATIVE_INFINITY;
    this.#ids = this.#chosen;
    if (topK > 0 && topK < this.vocabSize) {
      this.count = largest(logits, topK, this.#chosen);
      this.#weigh(logits, floor, maximum, scale);
    } else if (minP > 0) {
      this.count = this.#find(logits, floor);
      this.#weigh(logits, floor, maximum, scale);
    } else if (topP < 1) {
      this.#chooseNucleus(share, logits, maximum, scale);
      return;
    } else {
      this.#ids = this.#all;
      this.count = this.vocabSize;
      this.total = decayAll(logits, maximum, scale, this.weights);
    }
    if (topP < 1) this.#keep(nucleus(this.#ids, this.weights, 0, this.count, share * this.total));
  }

  /** The candidate at `place` (0 <= place < 1) of the total weight. */
  at(place: number): number {
    const end = place * this.total;
    let passed = 0;
    let last = 0;
    for (let i = 0; i < this.count; i++) {
      const weight = this.weights[i]!;
      if (weight === 0) continue;
      passed += weight;
      if (passed > end) return this.#ids[i]!;
      last = i;
    }
    return this.#ids[last]!;
  }

  /** Chooses all whose logit is not below `floor`. */
  #find(logits: Float32Array, floor: number): number {
    let found = 0;
    for (let id = nextAtLeast(logits, floor, 0); id < logits.length; id = nextAtLeast(logits, floor, id + 1)) {
      this.#chosen[found++] = id;
    }
    return found;
  }

  /** Weighs the chosen ones, and leaves out those whose logit is below `floor`. */
  #weigh(logits: Float32Array, floor: number, maximum: number, scale: number): void {
    let kept = 0;
    this.total = 0;
    for (let i = 0; i < this.count; i++) {
      const id = this.#chosen[i]!;
      const logit = logits[id]!;
      if (logit < floor) continue;
      const weight = decay((maximum - logit) * scale);
      this.#chosen[kept] = id;
      this.weights[kept++] = weight;
      this.total += weight;
    }
    this.count = kept;
  }

  /** The nucleus of the whole vocabulary: sums per bin say which bin it ends in, and only that one is searched. */
  #chooseNucleus(share: number, logits: Float32Array, maximum: number, scale: number): void {
    let missing = share * massByDepth(logits, maximum, scale, this.#mass);
    let last = 0;
    while (last < BINS - 1 && this.#mass[last]! < missing) missing -= this.#mass[last++]!;

    const { weights } = this;
    const ids = this.#chosen;
    const floor = maximum - ((last + 2) * BIN_WIDTH) / scale;
    let certain = 0;
    let kept = 0;
    for (let id = nextAtLeast(logits, floor, 0); id < logits.length; id = nextAtLeast(logits, floor, id + 1)) {
      const depth = (maximum - logits[id]!) * scale;
      const bin = binOf(depth);
      if (bin > last) continue;
      let place = kept++;
      if (bin < last) {
        ids[place] = ids[certain]!;
        weights[place] = weights[certain]!;
        place = certain++;
      }
      ids[place] = id;
      weights[place] = decay(depth);
    }
    this.#keep(nucleus(ids, weights, certain, kept, missing));
  }

  #keep(count: number): void {
    this.count = count;
    this.total = 0;
    for (let i = 0; i < this.count; i++) this.total += this.weights[i]!;
  }
}
