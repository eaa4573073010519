import { describe, expect, test } from "vitest";
import { compare } from "../../../loadtest/load/comparison.js";
import { figuresOf } from "../../../loadtest/load/figures.js";
import type { Trial } from "../../../loadtest/load/run-scenarios.js";
import { TargetFailure } from "../../../loadtest/target/failure.js";

const answer = (latencyMs: number, arrivals: number[]) => ({ latencyMs, tokens: 4, promptTokens: 30, arrivals });

function trial(more: Partial<Trial>): Trial {
  return {
    scenario: "streaming",
    target: "A",
    round: 0,
    seconds: 2,
    answers: [answer(50, [10, 20, 30, 50])],
    failures: [],
    refusals: 0,
    cutPieces: 0,
    ended: "time",
    memory: null,
    ...more,
  };
}

describe("the figures of a scenario", () => {
  test("are those of all its rounds together", () => {
    const figures = figuresOf([
      trial({ answers: [answer(50, [10, 20, 30, 50]), answer(70, [30, 40, 60])], cutPieces: 2 }),
      trial({ round: 1, seconds: 3, answers: [], refusals: 4, failures: [new TargetFailure("refused", "no")] }),
    ]);
    expect(figures).toMatchObject({
      rounds: 2,
      seconds: 5,
      answers: 2,
      answersPerSecond: 0.4,
      tokensPerSecond: 2,
      promptTokens: 30,
      latency: { p50: 60, p99: expect.closeTo(69.8) },
      firstToken: { p50: 20, p99: expect.closeTo(29.8) },
      betweenTokens: { p50: 10, p95: 20 },
      refusals: 4,
      failures: { total: 1 },
    });
  });

  test("have times between tokens where there were two, and of the first where there was one", () => {
    const figures = figuresOf([trial({ answers: [answer(60, []), answer(70, [5])] })]);
    expect(figures).toMatchObject({ firstToken: { p50: 5 }, betweenTokens: null, latency: { p50: 65 } });
  });

  test("have the memory of the first round's start, the highest peak and the last round's end", () => {
    const memories = [
      { start: 5, peak: 9, end: 7 },
      { start: 7, peak: 8, end: 6 },
    ];
    const [first, second] = memories.map((memory, round) => trial({ round, memory }));
    expect(figuresOf([first ?? trial({}), second ?? trial({})]).memory).toEqual({ start: 5, peak: 9, end: 6 });
  });
});

describe("two servers are compared", () => {
  const round = (number: number, a: number, b: number) => [
    trial({ round: number, cutPieces: a }),
    trial({ round: number, cutPieces: b, target: "B" }),
  ];

  test("round by round, by the median of their ratios: what slows both in one round does not count", () => {
    const trials = [...round(0, 4, 12), ...round(1, 96, 196), ...round(2, 6, 1)];
    expect(compare("streaming", trials, ["A", "B"])).toMatchObject({
      pairs: 3,
      tokensPerSecond: 2,
      answersPerSecond: 1,
      firstToken: 1,
      latency: 1,
    });
  });

  test("in rounds in which both have answered", () => {
    const trials = [
      ...round(0, 4, 4),
      trial({ round: 1 }),
      trial({ round: 1, target: "B", answers: [] }),
      trial({ round: 2 }),
    ];
    expect(compare("streaming", trials, ["A", "B"]).pairs).toBe(1);
    expect(compare("streaming", [], ["A", "B"])).toMatchObject({ pairs: 0, tokensPerSecond: null });
  });
});
