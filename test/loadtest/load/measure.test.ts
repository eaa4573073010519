import { setTimeout as pause } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { type MeasureOptions, measure } from "../../../loadtest/load/measure.js";
import type { Answer, Connection } from "../../../loadtest/load/outcomes.js";
import { TargetFailure } from "../../../loadtest/target/failure.js";

const ANSWER: Answer = { latencyMs: 5, tokens: 8, promptTokens: 3, arrivals: [] };
const until = (signal: AbortSignal) => pause(60_000, undefined, { signal }).catch(() => {});

/** Answers every few ms. */
const answering: Connection = async (outcomes, signal) => {
  while (!signal.aborted) {
    await pause(5);
    outcomes.answered(ANSWER);
  }
};
/** Is in the middle of an answer for ever. */
const endless: Connection = async (outcomes, signal) => {
  await until(signal);
  outcomes.cut(7);
};
const failing =
  (kind: "refused" | "timed out", status: number | null = null): Connection =>
  async (outcomes, signal) => {
    while (!signal.aborted && outcomes.failed(new TargetFailure(kind, "no", status))) await pause(5);
  };

const options: MeasureOptions = { seconds: 0.2, graceMs: 300, isExpected: () => false };
const run = (connections: Connection[], more: Partial<MeasureOptions> = {}, signal = new AbortController().signal) =>
  measure(connections, { ...options, ...more }, signal);

describe("a scenario", () => {
  test("lasts as long as asked for where every connection has had an answer", async () => {
    const { ended, answers, seconds } = await run([answering, answering]);
    expect(ended).toBe("time");
    expect(answers.length).toBeGreaterThan(2);
    expect(seconds).toBeGreaterThanOrEqual(0.2);
  });

  test("waits for the first answer of each, but not for ever: then that is a failure, and what had come counts", async () => {
    const { ended, failures, cutPieces } = await run([answering, endless]);
    expect(ended).toBe("limit");
    expect(failures.map(({ kind }) => kind)).toEqual(["timed out"]);
    expect(cutPieces).toBe(7);
  });

  test("ends where all connections fail and fail, but not where one of them answers", async () => {
    const dead = await run([failing("refused"), failing("refused")], { seconds: 60 });
    expect(dead).toMatchObject({ ended: "failures", answers: [] });
    expect(dead.failures.length).toBeGreaterThanOrEqual(5);
    const silent = await run([failing("timed out"), failing("timed out")], { seconds: 60 });
    expect(silent).toMatchObject({ ended: "failures", failures: [{ kind: "timed out" }, { kind: "timed out" }] });
    expect(await run([failing("refused"), answering], { seconds: 1.2 })).toMatchObject({ ended: "time" });
  });

  test("pauses before it opens a connection again that has failed", async () => {
    let opened = 0;
    const counted: Connection = async (outcomes, signal) => {
      opened += 1;
      await failing("refused")(outcomes, signal);
    };
    await run([counted, answering], { seconds: 1 });
    expect(opened).toBeGreaterThan(1);
    expect(opened).toBeLessThan(6);
  });

  test("counts refusals that it is for apart, and goes on", async () => {
    const { ended, failures, refusals } = await run([failing("refused", 429)], {
      isExpected: ({ status }) => status === 429,
    });
    expect(ended).toBe("time");
    expect(failures).toEqual([]);
    expect(refusals).toBeGreaterThan(1);
  });

  test("keeps what was measured where it is interrupted", async () => {
    const interruption = new AbortController();
    setTimeout(() => interruption.abort(), 100);
    const { ended, answers, seconds } = await run([answering], { seconds: 60 }, interruption.signal);
    expect(ended).toBe("interrupted");
    expect(answers.length).toBeGreaterThan(0);
    expect(seconds).toBeLessThan(60);
    expect(await run([answering], {}, AbortSignal.abort())).toMatchObject({ ended: "interrupted", answers: [] });
  });
});
