import { BIN_WIDTH, BINS, binOf, decay, decayAll, massByDepth } from "./decay.js";
import type { SamplingParams } from "./generation.js";
import { largest } from "./largest.js";
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
    const floor = minP > 0 ? maximum + temperature * Math.log(minP) : Number.NEGATIVE_INFINITY;
    this.#ids = this.#chosen;
    if (topK > 0 && topK < this.vocabSize) {
      this.count = largest(logits, topK, this.#chosen);
      this.#weighAbove(floor, this.#chosen, logits, maximum, scale);
    } else if (minP > 0) {
      this.count = this.vocabSize;
      this.#weighAbove(floor, this.#all, logits, maximum, scale);
    } else if (topP < 1) {
      return this.#chooseNucleus(topP, logits, maximum, scale);
    } else {
      this.#ids = this.#all;
      this.count = this.vocabSize;
      this.total = decayAll(logits, maximum, scale, this.weights);
    }
    if (topP < 1) this.#keep(nucleus(this.#ids, this.weights, 0, this.count, topP * this.total));
  }

  /** The candidate at `share` (0 <= share < 1) of the total weight. */
  at(share: number): number {
    const end = share * this.total;
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

  /** Of the first `count` ids keeps those whose logit is not below `floor`. */
  #weighAbove(floor: number, ids: Int32Array, logits: Float32Array, maximum: number, scale: number): void {
    let kept = 0;
    let total = 0;
    for (let i = 0; i < this.count; i++) {
      const id = ids[i]!;
      const logit = logits[id]!;
      if (logit < floor) continue;
      const weight = decay((maximum - logit) * scale);
      this.#chosen[kept] = id;
      this.weights[kept++] = weight;
      total += weight;
    }
    this.count = kept;
    this.total = total;
  }

  /** The nucleus of the whole vocabulary: sums per bin say which bin it ends in, and only that one is searched. */
  #chooseNucleus(topP: number, logits: Float32Array, maximum: number, scale: number): void {
    let missing = topP * massByDepth(logits, maximum, scale, this.#mass);
    let last = 0;
    while (last < BINS - 1 && this.#mass[last]! < missing) missing -= this.#mass[last++]!;

    const { weights } = this;
    const ids = this.#chosen;
    const floor = maximum - ((last + 2) * BIN_WIDTH) / scale;
    let certain = 0;
    let kept = 0;
    for (let id = 0; id < logits.length; id++) {
      while (id + 3 < logits.length && logits[id]! < floor && logits[id + 1]! < floor) {
        if (logits[id + 2]! >= floor || logits[id + 3]! >= floor) break;
        id += 4;
      }
      const depth = (maximum - logits[id]!) * scale;
      const bin = id < logits.length ? binOf(depth) : BINS;
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
    this.count = Math.max(count, 1);
    this.total = 0;
    for (let i = 0; i < this.count; i++) this.total += this.weights[i]!;
  }
}
