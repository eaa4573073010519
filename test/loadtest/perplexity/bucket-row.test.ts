import { expect, test } from "vitest";
import { bucketRows, freshFigure } from "../../../loadtest/perplexity/bucket-row.js";
import { verdictOf } from "../../../loadtest/perplexity/goal.js";
import { planOf } from "../../../loadtest/perplexity/plan.js";
import { passNll, passResult, sampledNll } from "../../../loadtest/perplexity/result.js";

test("a difference is the mean of the differences at the same tokens, with its standard error", () => {
  // differences 0.5, -0.1, 0.2: mean 0.2, variance 0.09, s.e. sqrt(0.09 / 3)
  const figure = freshFigure([2, 3, 4], { same: [2.5, 2.9, 4.2], nll: 5 });
  expect(figure).toMatchObject({ samples: 3, sampledNll: 3 });
  expect(figure?.lambdaAbove).toBeCloseTo(0.2, 12);
  expect(figure?.nll).toBeCloseTo(4.8, 12);
  expect(figure?.standardError).toBeCloseTo(Math.sqrt(0.03), 12);
});

test("without lambda at the same tokens there is no difference, and of one token no error", () => {
  const alone = { samples: 2, nll: 2.5, sampledNll: 2.5, lambdaAbove: null, standardError: null };
  expect(freshFigure([2, 3], undefined)).toEqual(alone);
  const one = { samples: 1, nll: 3, sampledNll: 2, lambdaAbove: 1, standardError: null };
  expect(freshFigure([2], { same: [3], nll: 4 })).toEqual(one);
  expect(freshFigure([], { same: [], nll: 4 })).toBeNull();
});

test("rows have means over the tokens that were read; what was not measured is null", () => {
  const settings = { modes: ["lambda", "full", "truncation"], samples: 2, seed: 1, fullTokens: 20 } as const;
  const plan = planOf([...Array(40).keys()], { window: 15, sinks: 0 }, false, settings);
  const [first = 0, second = 0] = plan.positions[1] ?? [];
  // Lambda's NLL at position t is t: the mean of 16..31 is 23.5.
  const lambda = Array.from({ length: 16 }, (_, i) => 16 + i);
  const rows = bucketRows(plan, [
    passResult("lambda", 0, Array(15).fill(2)),
    passResult("lambda", 1, lambda),
    passResult("full", 1, [3, 3, 3, 3]),
    { part: "re-encoded", bucket: 1, first: 0, nll: [first - 1] },
    { part: "re-encoded", bucket: 1, first: 1, nll: [second - 1, 77] }, // one more than this plan asks for
    { part: "truncation", bucket: 1, first: 5, nll: [9] }, // what is before is missing
  ]);
  expect(rows).toEqual([
    {
      from: 1,
      to: 16,
      withinWindow: true,
      lambda: { tokens: 15, nll: 2 },
      full: null,
      reEncoded: null,
      truncation: null,
    },
    {
      from: 16,
      to: 32,
      withinWindow: false,
      lambda: { tokens: 16, nll: 23.5 },
      full: { tokens: 4, nll: 3 },
      reEncoded: { samples: 2, nll: 22.5, sampledNll: (first + second) / 2 - 1, lambdaAbove: 1, standardError: 0 },
      truncation: null,
    },
    { from: 32, to: 40, withinWindow: false, lambda: null, full: null, reEncoded: null, truncation: null },
  ]);
});

test("the goal is met if no bucket is over it; buckets that were not measured do not count", () => {
  const row = (from: number, lambdaAbove: number | null) => ({
    from,
    to: 2 * from,
    withinWindow: false,
    lambda: null,
    full: null,
    reEncoded: lambdaAbove === null ? null : { samples: 9, nll: 3, sampledNll: 3, lambdaAbove, standardError: 0.004 },
    truncation: null,
  });
  expect(verdictOf([row(32, -0.01), row(64, 0.0199), row(128, null)], true)).toEqual({
    met: true,
    sentence:
      "Goal: no bucket more than 0.02 nat above its re-encoded value. Met in all 2; largest difference +0.0199 ± 0.0040 at 64..127.",
  });
  expect(verdictOf([row(32, 0.03), row(64, 0.0199)], false)).toMatchObject({
    met: false,
    sentence: expect.stringContaining("Not met in 1 of 2; largest difference +0.0300 ± 0.0040 at 32..63."),
  });
  expect(verdictOf([row(32, null)], true)).toMatchObject({ met: null });
  expect(verdictOf([row(32, -0.01)], false)).toMatchObject({
    met: null,
    sentence: expect.stringContaining("Met so far in 1"),
  });
});

test("a pass is kept token by token, in 7 digits; samples add up in order", () => {
  const nll = [0, 3.25, 1e-3, 9999, Math.PI];
  const kept = passNll([passResult("full", 3, nll), passResult("lambda", 3, [1])], "full", 3);
  for (const [i, value] of nll.entries()) expect(kept?.[i]).toBeCloseTo(value, 6);
  expect(kept).toHaveLength(nll.length);
  expect(passNll([passResult("full", 3, nll)], "full", 2)).toBeUndefined();
  const results = [0, 2, 2, 5].map((first) => ({ part: "truncation" as const, bucket: 1, first, nll: [first, first] }));
  expect(sampledNll(results, "truncation", 1)).toEqual([0, 0, 2, 2]);
});
