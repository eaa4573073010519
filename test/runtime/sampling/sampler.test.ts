import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { describe, expect, test } from "vitest";
import type { SamplingParams } from "../../../runtime/contract/generation.js";
import { Candidates } from "../../../runtime/sampling/candidates.js";
import { NoTokenLeft, NotFiniteLogits } from "../../../runtime/sampling/finite-logits.js";
import { Sampler } from "../../../runtime/sampling/sampler.js";
import { TokenCounts } from "../../../runtime/sampling/token-counts.js";

const neutral: SamplingParams = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: 1,
};

/** Normally distributed, by the sum of twelve. */
function randomLogits(vocab: number, seed: number, deviation: number): Float32Array {
  const random = xoroshiro128plus(seed);
  return Float32Array.from({ length: vocab }, () => {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += uniformFloat64(random);
    return deviation * sum;
  });
}

/** What is less likely than the best by more than this is never drawn. */
const NEGLIGIBLE = Math.exp(-32);

/** The probability of every token that may be drawn, straight from the definitions. */
function distribution(logits: Float32Array, { temperature, topK, topP, minP }: SamplingParams): Map<number, number> {
  const maximum = logits.reduce((a, b) => Math.max(a, b));
  let kept = Array.from(logits, (logit, id) => ({ id, weight: Math.exp((logit - maximum) / temperature) }));
  kept = kept
    .filter(({ weight }) => weight >= Math.max(minP, NEGLIGIBLE))
    .sort((a, b) => b.weight - a.weight || a.id - b.id);
  if (topK > 0) kept = kept.slice(0, topK);
  const target = topP * kept.reduce((sum, { weight }) => sum + weight, 0);
  let reached = 0;
  kept = kept.filter(({ weight }, i) => {
    const keep = i === 0 || topP === 1 || reached < target;
    reached += weight;
    return keep;
  });
  const total = kept.reduce((sum, { weight }) => sum + weight, 0);
  return new Map(kept.map(({ id, weight }) => [id, weight / total]));
}

/** The probability of every token that the sampler may draw. */
function candidates(logits: Float32Array, params: SamplingParams): Map<number, number> {
  const chosen = new Candidates(logits.length);
  chosen.choose(
    logits,
    logits.reduce((a, b) => Math.max(a, b)),
    params,
  );
  const { ids, weights, count, total } = chosen;
  const all = Array.from({ length: count }, (_, i) => [ids[i]!, weights[i]! / total] as const);
  return new Map(all.filter(([, probability]) => probability > 0));
}

function expectSame(got: Map<number, number>, expected: Map<number, number>): void {
  expect([...got.keys()].sort((a, b) => a - b)).toEqual([...expected.keys()].sort((a, b) => a - b));
  for (const [id, probability] of expected) expect(Math.abs(got.get(id)! / probability - 1)).toBeLessThan(3e-8);
}

function sampler(params: Partial<SamplingParams>, vocab: number): Sampler {
  return new Sampler({ ...neutral, ...params }, new Candidates(vocab));
}

function draw(params: Partial<SamplingParams>, logits: Float32Array, times: number): number[] {
  const drawing = sampler(params, logits.length);
  return Array.from({ length: times }, () => drawing.pick(logits, null));
}

/** Chi-square over tokens (the rare ones together); within 4.5 deviations of its mean. */
function expectDistributed(draws: readonly number[], expected: Map<number, number>): void {
  const seen = new Map<number, number>();
  for (const id of draws) seen.set(id, (seen.get(id) ?? 0) + 1);
  for (const id of seen.keys()) expect(expected.has(id)).toBe(true);
  let rare = { expected: 0, seen: 0 };
  let chiSquare = 0;
  let cells = 0;
  for (const [id, probability] of expected) {
    const cell = { expected: probability * draws.length, seen: seen.get(id) ?? 0 };
    if (cell.expected < 10) {
      rare = { expected: rare.expected + cell.expected, seen: rare.seen + cell.seen };
      continue;
    }
    chiSquare += (cell.seen - cell.expected) ** 2 / cell.expected;
    cells++;
  }
  if (rare.expected >= 10) {
    chiSquare += (rare.seen - rare.expected) ** 2 / rare.expected;
    cells++;
  }
  expect(Math.abs(chiSquare - (cells - 1)) / Math.sqrt(2 * (cells - 1))).toBeLessThan(4.5);
}

describe("100,000 draws follow the distribution", () => {
  const logits = randomLogits(200, 5, 2);
  test.each<Partial<SamplingParams>>([
    {},
    { temperature: 0.7 },
    { temperature: 2.5 },
    { topK: 20 },
    { topP: 0.9 },
    { minP: 0.02 },
    { temperature: 0.8, topK: 50, topP: 0.95, minP: 0.01 },
  ])("%j", (params) => {
    expectDistributed(draw(params, logits, 100_000), distribution(logits, { ...neutral, ...params }));
  });

  test("also of one draw each from 100,000 neighbouring seeds", () => {
    const shared = new Candidates(logits.length);
    const draws = Array.from({ length: 100_000 }, (_, seed) =>
      new Sampler({ ...neutral, seed }, shared).pick(logits, null),
    );
    expectDistributed(draws, distribution(logits, neutral));
  });
});

describe("candidates are what the definitions say", () => {
  const settings: Partial<SamplingParams>[] = [
    {},
    { topP: 0 },
    { topP: 0.1 },
    { topP: 0.5 },
    { topP: 0.95 },
    { topP: 0.9999 },
    { topK: 1 },
    { topK: 7 },
    { topK: 700 },
    { topK: 1_000_000 },
    { minP: 0.001 },
    { minP: 0.5 },
    { minP: 1 },
    { topK: 100, topP: 0.8 },
    { topK: 300, topP: 0.9, minP: 0.001 },
    { topP: 0.9, minP: 0.01 },
  ];
  test.each(settings)("%j", (setting) => {
    for (const [seed, temperature, deviation] of [
      [1, 1, 1],
      [2, 0.5, 3],
      [3, 1.7, 2],
      [4, 20, 1],
      [5, 1, 0.001],
    ] as const) {
      const logits = randomLogits(1003, seed, deviation);
      const params = { ...neutral, ...setting, temperature };
      expectSame(candidates(logits, params), distribution(logits, params));
    }
  });

  test("of equally likely tokens the lower ids stay", () => {
    const flat = new Float32Array(1000);
    const lowest = (count: number) => Array.from({ length: count }, (_, id) => id);
    const kept = (setting: Partial<SamplingParams>) =>
      [...candidates(flat, { ...neutral, ...setting }).keys()].sort((a, b) => a - b);
    expect(kept({ topK: 10 })).toEqual(lowest(10));
    expect(kept({ topP: 0.25 })).toEqual(lowest(250));
    expect(kept({ topK: 100, topP: 0.25 })).toEqual(lowest(25));
  });

  test("ruled-out tokens are never drawn, extreme logits are no trouble", () => {
    const logits = new Float32Array(100).fill(Number.NEGATIVE_INFINITY);
    logits[17] = 3e38;
    logits[50] = -3e38;
    for (const setting of [{}, { topP: 0.9 }, { topK: 50 }, { minP: 0.1 }, { temperature: 0 }, { temperature: 1e30 }]) {
      const picks = new Set(draw(setting, logits, 100));
      picks.delete(17);
      if ("temperature" in setting) picks.delete(50);
      expect([...picks]).toEqual([]);
    }
  });
});

describe("seeds", () => {
  const logits = randomLogits(500, 9, 1);
  const text = (seed: number | undefined) => draw({ seed }, logits, 20).join();

  test("the same seed gives the same tokens, whatever other samplers of the thread do", () => {
    const shared = new Candidates(logits.length);
    const first = new Sampler({ ...neutral, topP: 0.9, seed: 42 }, shared);
    const other = new Sampler({ ...neutral, topK: 5, seed: 7 }, shared);
    const picks = Array.from({ length: 20 }, () => {
      other.pick(randomLogits(500, 10, 2), null);
      return first.pick(logits, null);
    });
    expect(picks).toEqual(draw({ topP: 0.9, seed: 42 }, logits, 20));
  });

  test("every safe integer is a seed of its own, negative ones and high halves too", () => {
    const seeds = [0, 1, -1, 2, -2, 2 ** 31, -(2 ** 31), 2 ** 32, 2 ** 32 + 1, -(2 ** 32), 2 ** 40, 2 ** 52];
    const texts = [...seeds, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER].map(text);
    expect(new Set(texts).size).toBe(texts.length);
  });

  test("without a seed two requests differ", () => {
    expect(text(undefined)).not.toBe(text(undefined));
  });

  test("a saved state goes on where it was", () => {
    const first = sampler({}, 500);
    for (let i = 0; i < 5; i++) first.pick(logits, null);
    const second = new Sampler(neutral, new Candidates(500), structuredClone(first.state()));
    const next = (from: Sampler) => Array.from({ length: 20 }, () => from.pick(logits, null));
    expect(next(second)).toEqual(next(first));
  });
});

describe("greedy", () => {
  test("takes the largest logit, of equals the lowest id", () => {
    const logits = Float32Array.of(-3, 1, 5, 5, -Infinity, 5);
    expect(sampler({ temperature: 0 }, 6).pick(logits, null)).toBe(2);
  });

  test("looks at penalised and biased logits", () => {
    const history = new TokenCounts(10);
    history.pushOutput(0);
    const logits = Float32Array.of(5, 4.5, 4);
    expect(sampler({ temperature: 0, presencePenalty: 0.7 }, 3).pick(logits, history)).toBe(1);
    expect(sampler({ temperature: 0, logitBias: [[2, 1.5]] }, 3).pick(logits, history)).toBe(2);
  });
});

describe("penalties and bias", () => {
  /** Adjusted logits, read off the probabilities: relative to those of the last token, which nothing changes. */
  function adjusted(params: Partial<SamplingParams>, logits: Float32Array, history: TokenCounts): number[] {
    const shared = new Candidates(logits.length);
    new Sampler({ ...neutral, ...params }, shared).pick(logits, history);
    const last = logits.length - 1;
    return Array.from(logits, (_, id) => Math.log(shared.weights[id]! / shared.weights[last]!) + logits[last]!);
  }
  const logits = Float32Array.of(2, -1, 1, 0.5, 0.25, 0);
  function expectLogits(got: readonly number[], expected: readonly number[]): void {
    for (const [id, logit] of expected.entries()) expect(got[id]).toBeCloseTo(logit, 5);
  }

  test("count tokens of the window only, the prompt's for repetition, the output's for all three", () => {
    const history = new TokenCounts(4);
    history.pushPrompt(4);
    history.pushPrompt(0);
    history.pushPrompt(1);
    history.pushOutput(2);
    history.pushOutput(2);
    const repetition = adjusted({ repetitionPenalty: 2 }, logits, history);
    expectLogits(repetition, [1, -2, 0.5, 0.5, 0.25, 0]);
    const presence = adjusted({ presencePenalty: 0.5 }, logits, history);
    expectLogits(presence, [2, -1, 0.5, 0.5, 0.25, 0]);
    const frequency = adjusted({ frequencyPenalty: 0.5 }, logits, history);
    expectLogits(frequency, [2, -1, 0, 0.5, 0.25, 0]);
    const together = adjusted(
      {
        repetitionPenalty: 2,
        presencePenalty: 0.5,
        frequencyPenalty: 0.25,
        logitBias: [
          [2, 0.125],
          [3, -1],
        ],
      },
      logits,
      history,
    );
    expectLogits(together, [1, -2, -0.375, -0.5, 0.25, 0]);
  });

  test("the model's own logits stay as they are", () => {
    const history = new TokenCounts(4);
    history.pushOutput(0);
    const own = logits.slice();
    sampler({ repetitionPenalty: 2, logitBias: [[1, 5]] }, 6).pick(own, history, [3]);
    expect(own).toEqual(logits);
  });

  test("a bias of 100 forces a token, -100 bans it", () => {
    expect(new Set(draw({ logitBias: [[1, 100]] }, logits, 300))).toEqual(new Set([1]));
    expect(
      new Set(
        draw(
          {
            logitBias: [
              [0, -100],
              [2, -100],
            ],
          },
          logits,
          3000,
        ),
      ),
    ).toEqual(new Set([1, 3, 4, 5]));
  });

  test("forbidden tokens are not drawn, whatever their bias", () => {
    const drawing = sampler({ logitBias: [[0, 100]] }, 6);
    const picks = new Set(Array.from({ length: 2000 }, () => drawing.pick(logits, null, [0, 5])));
    expect(picks).toEqual(new Set([1, 2, 3, 4]));
  });

  test("says whether it needs a history", () => {
    expect(sampler({}, 6).needsHistory).toBe(false);
    expect(sampler({ frequencyPenalty: -0.1 }, 6).needsHistory).toBe(true);
  });
});

describe("logits that are no numbers end the request", () => {
  test.each([Number.NaN, Infinity])("%d anywhere", (bad) => {
    for (const params of [{}, { temperature: 0 }, { topP: 0.9 }, { topK: 3 }, { logitBias: [[0, 1]] as const }]) {
      for (let at = 0; at < 11; at++) {
        const logits = randomLogits(11, 1, 1);
        logits[at] = bad;
        expect(() => sampler(params, 11).pick(logits, null)).toThrow(NotFiniteLogits);
      }
    }
  });

  test("also at a forbidden token", () => {
    expect(() => sampler({}, 3).pick(Float32Array.of(1, Number.NaN, 2), null, [1])).toThrow(NotFiniteLogits);
  });

  test("nothing but -Infinity", () => {
    expect(() => sampler({}, 3).pick(new Float32Array(3).fill(-Infinity), null)).toThrow(NotFiniteLogits);
  });
});

describe("a mask", () => {
  const logits = Float32Array.of(5, 4, 3, 2, Number.NEGATIVE_INFINITY);
  const masked = (allowedTokenIds: number[], more: Partial<SamplingParams> = {}) =>
    sampler({ allowedTokenIds, ...more }, logits.length);

  test("leaves only what is allowed and not forbidden, greedy or drawn", () => {
    expect(masked([3, 2, 2], { temperature: 0 }).pick(logits, null)).toBe(2);
    expect(masked([3, 2], { temperature: 0 }).pick(logits, null, [2])).toBe(3);
    const drawn = new Set(draw({ allowedTokenIds: [1, 3, 4] }, logits, 300));
    expect([...drawn].sort()).toEqual([1, 3]);
    for (const more of [{ topK: 1 }, { topP: 0.1 }, { minP: 0.9 }])
      expect(masked([1, 3], more).pick(logits, null)).toBe(1);
  });

  test("changes the drawing's probabilities to those among what is left", () => {
    const times = 4000;
    const drawn = draw({ allowedTokenIds: [1, 2] }, logits, times).filter((id) => id === 1).length / times;
    expect(Math.abs(drawn - 1 / (1 + Math.exp(-1)))).toBeLessThan(0.03);
  });

  test("that leaves nothing is the request's fault, not the model's", () => {
    expect(() => masked([2]).pick(logits, null, [2])).toThrow(NoTokenLeft);
    expect(() => masked([4]).pick(logits, null)).toThrow(NoTokenLeft);
    expect(() => sampler({}, 5).pick(logits, null, [0, 1, 2, 3])).toThrow(NoTokenLeft);
    expect(() => masked([0]).pick(Float32Array.of(1, Number.NaN, 1, 1, 1), null)).toThrow(NotFiniteLogits);
    expect(() => masked([0]).pick(new Float32Array(5).fill(Number.NEGATIVE_INFINITY), null)).toThrow(NotFiniteLogits);
  });

  test("does not write to the model's logits", () => {
    masked([1]).pick(logits, null, [0]);
    expect([...logits]).toEqual([5, 4, 3, 2, Number.NEGATIVE_INFINITY]);
  });
});
