import { describe, expect, test } from "vitest";
import { besideBaseline, compareBest, lossesAtEqualL0, mseAt, verdict } from "../../../lab/frontier/comparison.js";
import { frontierReport } from "../../../lab/frontier/frontier-report.js";
import {
  bestOf,
  curveRuns,
  type Method,
  nextRun,
  type RunResult,
  runsOf,
  settingTitle,
} from "../../../lab/frontier/frontier-run.js";
import { welchTest } from "../../../lab/statistics/welch.js";
import { markdownTable } from "../../../loadtest/report/report.js";

/** A run that ended near an mse, which differs a little from step to step and seed to seed. */
function result(method: Method, setting: number, l0: number, mse: number, seed = 1): RunResult {
  const last = Array.from({ length: 100 }, (_, step) => mse * (1 + 0.05 * Math.sin(7 * step + seed)));
  return {
    ...{ method, setting, seed, dead: 3 },
    last: { mse: last, l0: last.map(() => l0) },
    heldOut: { mse: mse * 1.1, l0 },
  };
}

/** The paper's layer 6 (arXiv 2503.24277). */
const PAPER = [
  ...[
    [32, 0.0649],
    [256, 0.0264],
    [1024, 0.000174],
    [2048, 0.000185],
  ].map(([k = 0, mse = 0]) => result("topk", k, k, mse)),
  result("batch-topk", 1024, 1024, 0.000202),
  ...[
    [1 / 128, 315, 0.132],
    [1 / 64, 1110, 0.029],
    [1 / 32, 2037, 0.000164],
    [1 / 24, 2132, 0.000214],
  ].map(([lambda = 0, l0 = 0, mse = 0]) => result("top-afa", lambda, l0, mse)),
];
const SEEDS = [
  ...PAPER,
  ...[2, 3].flatMap((seed) => [
    result("top-afa", 1 / 32, 2040, 0.00017, seed),
    result("topk", 1024, 1024, 0.00018, seed),
    result("batch-topk", 1024, 1024, 0.0002, seed),
  ]),
];

describe("the comparison of the paper", () => {
  test("takes each method's run of least error, whatever its l0, seed by seed", () => {
    const comparisons = compareBest(SEEDS, 1, [1, 2, 3]);
    expect(
      comparisons.map(({ topAfa, baseline }) => [topAfa.setting, baseline.method, baseline.setting, topAfa.seed]),
    ).toEqual(["topk", "batch-topk"].flatMap((method) => [1, 2, 3].map((seed) => [1 / 32, method, 1024, seed])));
    const [{ topAfa, baseline, test: welch }] = comparisons as [(typeof comparisons)[number]];
    expect(welch).toEqual(welchTest(topAfa.last.mse, baseline.last.mse));
    expect(welch.t).toBeLessThan(-5);
  });

  test("leaves out seeds and methods that have not run", () => {
    expect(compareBest(PAPER, 1, [1, 2, 3])).toHaveLength(2);
    expect(
      compareBest(
        PAPER.filter(({ method }) => method !== "topk"),
        1,
        [1],
      ),
    ).toHaveLength(1);
    expect(
      compareBest(
        PAPER.filter(({ method }) => method !== "top-afa"),
        1,
        [1],
      ),
    ).toEqual([]);
    expect(bestOf([], "topk", 1)).toBeNull();
  });

  test.each([
    { topAfa: [60, 0.02], baseline: [64, 0.03], says: "top-AFA has the lower mse, at lower or equal l0." },
    { topAfa: [600, 0.02], baseline: [64, 0.03], says: "top-AFA has the lower mse, and needs a higher l0 for it." },
    { topAfa: [60, 0.04], baseline: [64, 0.03], says: "top-AFA has the higher mse, at lower or equal l0." },
    { topAfa: [70, 0.04], baseline: [64, 0.03], says: "top-AFA has the higher mse, and the higher l0." },
  ])("is told with l0 beside each mse: $says", ({ topAfa: [l0 = 0, mse = 0], baseline: [k = 0, other = 0], says }) => {
    const sentence = verdict({ topAfa: result("top-afa", 1 / 32, l0, mse), baseline: result("topk", k, k, other) });
    expect(sentence).toMatch(/^top-AFA \(λ 1\/32\) has mse 0\.\d+ at l0 \d+; top-k \(k 64\) has mse 0\.03 at l0 64: /);
    expect(sentence).toContain(says);
  });
});

describe("runs at equal l0", () => {
  test("of top-AFA that lose are named, with what they lose to", () => {
    expect(lossesAtEqualL0(PAPER, 1)).toBe(
      "3 of 4 settings of top-AFA lose to a baseline of lower or equal l0: " +
        "top-AFA λ 1/128 (mse 0.145 at l0 315) loses to top-k k 256 (mse 0.029 at l0 256); " +
        "top-AFA λ 1/64 (mse 0.0319 at l0 1110) loses to top-k k 1024 (mse 1.91e-4 at l0 1020); " +
        "top-AFA λ 1/24 (mse 2.35e-4 at l0 2130) loses to top-k k 1024 (mse 1.91e-4 at l0 1020).",
    );
    expect(lossesAtEqualL0([result("top-afa", 1, 8, 0.1), result("topk", 16, 16, 0.01)], 1)).toBe(
      "0 of 1 settings of top-AFA lose to a baseline of lower or equal l0.",
    );
  });

  test("are not told of where top-AFA has not run", () => {
    expect(lossesAtEqualL0([result("topk", 16, 16, 0.01)], 1)).toBeNull();
  });

  test("of a baseline lie on a line between its runs, and nowhere else", () => {
    const runs = [result("topk", 16, 16, 0.1), result("topk", 64, 64, 0.025)];
    expect(mseAt(runs, "topk", 1, 32)).toBeCloseTo(0.055, 12);
    expect(mseAt(runs, "topk", 1, 64)).toBeCloseTo(0.0275, 12);
    expect([mseAt(runs, "topk", 1, 8), mseAt(runs, "topk", 1, 65), mseAt(runs, "batch-topk", 1, 32)]).toEqual([
      null,
      null,
      null,
    ]);
  });
});

test("top-AFA is put beside baselines of the same l0", () => {
  const runs = [result("topk", 16, 16, 0.1), result("topk", 64, 64, 0.025)];
  const topAfa = [
    result("top-afa", 1 / 16, 32, 0.1),
    result("top-afa", 1 / 32, 64, 0.02),
    result("top-afa", 1 / 2, 99, 0.02),
  ];
  expect(besideBaseline([...runs, ...topAfa], "topk", 1)).toBe(
    "At the same l0 as top-k (between two of its runs), the mse of top-AFA is 0.80 to 2.00 times as large.",
  );
  expect(besideBaseline([...runs, topAfa[2]!], "topk", 1)).toBeNull();
});

test("settings are called as people write them", () => {
  expect(settingTitle({ method: "top-afa", setting: 1 / 24 })).toBe("λ 1/24");
  expect(settingTitle({ method: "top-afa", setting: 0.03 })).toBe("λ 0.03");
  expect(
    curveRuns({ "top-afa": [0.5], topk: [8], "batch-topk": [8, 16] }, 4).map((run) => [settingTitle(run), run.seed]),
  ).toEqual([
    ["λ 1/2", 4],
    ["k 8", 4],
    ["k 8", 4],
    ["k 16", 4],
  ]);
});

describe("the report", () => {
  const settings = {
    ...{ model: "default", hook: "blocks.3.hook_resid_post", width: 1024, steps: 1000, batch: 2048 },
    ...{ vectors: 500_000, heldOut: 20_000, seeds: [1, 2, 3] },
  };

  test("has l0 beside every mse, the losses of top-AFA, the seeds and the test", () => {
    const { about, tables, charts, data } = frontierReport(settings, SEEDS);
    expect(about.join("\n")).toContain("3 of 4 settings of top-AFA lose");
    for (const { columns } of tables.slice(0, 3))
      for (const [i, column] of columns.entries())
        if (column.startsWith("mse")) expect(columns[i - 1]).toBe(column.replace("mse", "l0"));
    expect(markdownTable(tables.at(-1)!)).toContain(
      "| top-AFA λ 1/32 and top-k k 1024 | 1 | 1.64e-4 at l0 2040 | 1.74e-4 at l0 1020 | -",
    );
    expect(charts).toHaveLength(1);
    expect(data).toMatchObject({
      welch: { length: 6 },
      frontier: [{ method: "topk" }, { method: "topk" }, { method: "topk" }, { method: "top-afa", setting: 1 / 32 }],
    });
  });

  test("is there before the first run has ended", () => {
    expect(frontierReport(settings, [])).toMatchObject({ tables: [], charts: [], data: { runs: [], welch: [] } });
  });
});

describe("the plan of trainings", () => {
  const plan = { settings: { "top-afa": [1 / 64, 1 / 32], topk: [8], "batch-topk": [] }, seeds: [1, 2, 3] };

  test("has every setting once, then each method's best with the other seeds", () => {
    const results: RunResult[] = [];
    const runs: string[] = [];
    for (let run = nextRun(plan, results); run !== null; run = nextRun(plan, results)) {
      runs.push(`${settingTitle(run)} seed ${run.seed}`);
      results.push(result(run.method, run.setting, 64, run.setting, run.seed));
    }
    expect(runs).toEqual([
      ...["λ 1/64 seed 1", "λ 1/32 seed 1", "k 8 seed 1"],
      ...["λ 1/64 seed 2", "λ 1/64 seed 3", "k 8 seed 2", "k 8 seed 3"],
    ]);
    expect(runsOf(plan)).toBe(runs.length);
  });

  test("goes on behind what has run, with other settings as well", () => {
    const results = [
      ...[result("top-afa", 1 / 128, 8, 0.001), result("top-afa", 1 / 64, 8, 0.1), result("topk", 8, 8, 0.1)],
    ];
    expect(nextRun(plan, results)).toEqual({ method: "top-afa", setting: 1 / 32, seed: 1 });
    const all = [...results, result("top-afa", 1 / 32, 8, 0.2)];
    expect(nextRun(plan, all)).toEqual({ method: "top-afa", setting: 1 / 128, seed: 2 });
  });
});
