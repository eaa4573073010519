/** Rotary positions of a model, complete: nothing here is left to a default. Lengths in tokens. */
export type RopeParameters =
  | { readonly type: "default"; readonly theta: number }
  /** Chen et al. 2023, arXiv 2306.15595. */
  | { readonly type: "linear"; readonly theta: number; readonly factor: number }
  /** Llama 3.1: long wavelengths divided by `factor`, short ones kept, a ramp between. */
  | {
      readonly type: "llama3";
      readonly theta: number;
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalLength: number;
    }
  /** Peng et al. 2023, arXiv 2309.00071. */
  | {
      readonly type: "yarn";
      readonly theta: number;
      readonly factor: number;
      readonly originalLength: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Round the ramp's ends to whole dimensions. */
      readonly truncate: boolean;
      readonly attentionFactor: number;
    }
  /** Ding et al. 2024, arXiv 2402.13753; the factor lists have one entry per pair of rotated dimensions. */
  | {
      readonly type: "longrope";
      readonly theta: number;
      readonly originalLength: number;
      readonly shortFactors: readonly number[];
      readonly longFactors: readonly number[];
      readonly attentionFactor: number;
    }
  /** Frequencies divided one by one, as GGUF files store what a scaling has done; one divisor per pair of rotated dimensions. */
  | { readonly type: "divided"; readonly theta: number; readonly divisors: readonly number[] };

/** `inverseFrequencies[i]`: radians per position of pair i. `attentionFactor`: cos and sin are both multiplied by it. */
export interface RopeFrequencies {
  readonly inverseFrequencies: Float64Array;
  readonly attentionFactor: number;
}

/** Whether longrope takes its long factors where `window` is the largest distance that occurs. */
export const takesLongFactors = (rope: RopeParameters, window: number): boolean =>
  rope.type === "longrope" && window > rope.originalLength;

/**
 * The frequencies of rotary positions, as transformers 5 computes them (modeling_rope_utils.py), in float64.
 * longrope takes its long factors if `window`, the largest distance that occurs, exceeds the original length, and keeps them.
 * @param rotaryDim rotated dimensions of a head, even; the result has half as many frequencies
 * @throws RangeError if `rotaryDim` is odd or does not fit the lists of longrope or divided.
 */
export function ropeFrequencies(
  rope: RopeParameters,
  rotaryDim: number,
  { window }: { readonly window: number },
): RopeFrequencies {
  if (rotaryDim % 2 !== 0)
    throw new RangeError(`rotary positions turn pairs, so ${rotaryDim} dimensions cannot be rotated`);
  const plain = Float64Array.from({ length: rotaryDim / 2 }, (_, i) => rope.theta ** ((-2 * i) / rotaryDim));
  switch (rope.type) {
    case "default":
      return { inverseFrequencies: plain, attentionFactor: 1 };
    case "linear":
      return { inverseFrequencies: plain.map((frequency) => frequency / rope.factor), attentionFactor: 1 };
    case "llama3":
      return { inverseFrequencies: plain.map((frequency) => llama3(rope, frequency)), attentionFactor: 1 };
    case "yarn":
      return { inverseFrequencies: yarn(rope, plain), attentionFactor: rope.attentionFactor };
    case "longrope": {
      const factors = takesLongFactors(rope, window) ? rope.longFactors : rope.shortFactors;
      return { inverseFrequencies: divided(plain, factors), attentionFactor: rope.attentionFactor };
    }
    case "divided":
      return { inverseFrequencies: divided(plain, rope.divisors), attentionFactor: 1 };
  }
}

function divided(frequencies: Float64Array, divisors: readonly number[]): Float64Array {
  if (divisors.length !== frequencies.length)
    throw new RangeError(`${divisors.length} divisors for ${frequencies.length} pairs of dimensions`);
  return frequencies.map((frequency, i) => frequency / divisors[i]!);
}

type Of<T extends RopeParameters["type"]> = Extract<RopeParameters, { type: T }>;

function llama3(rope: Of<"llama3">, frequency: number): number {
  const turns = (rope.originalLength * frequency) / (2 * Math.PI);
  if (turns < rope.lowFreqFactor) return frequency / rope.factor;
  if (turns > rope.highFreqFactor) return frequency;
  const kept = (turns - rope.lowFreqFactor) / (rope.highFreqFactor - rope.lowFreqFactor);
  return ((1 - kept) * frequency) / rope.factor + kept * frequency;
}

function yarn(rope: Of<"yarn">, plain: Float64Array): Float64Array {
  const dim = 2 * plain.length;
  const dimensionOf = (turns: number) =>
    (dim * Math.log(rope.originalLength / (turns * 2 * Math.PI))) / (2 * Math.log(rope.theta));
  const [fast, slow] = [dimensionOf(rope.betaFast), dimensionOf(rope.betaSlow)];
  const low = Math.max(rope.truncate ? Math.floor(fast) : fast, 0);
  const end = Math.min(rope.truncate ? Math.ceil(slow) : slow, dim - 1);
  const high = low === end ? end + 0.001 : end;
  return plain.map((frequency, i) => {
    const interpolated = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return (frequency / rope.factor) * interpolated + frequency * (1 - interpolated);
  });
}
