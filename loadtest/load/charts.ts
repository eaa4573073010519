import { quantileSorted } from "simple-statistics";
import type { Chart } from "../report/report.js";
import { type Figures, samplesOf } from "./figures.js";
import type { Trial } from "./run-scenarios.js";

const KINDS = [
  ["firstToken", "first token"],
  ["betweenTokens", "between tokens"],
  ["latency", "whole answer"],
] as const;
const SHARES = [...Array.from({ length: 99 }, (_, i) => (i + 1) / 100), 0.995, 0.999];

/** Tokens per second by scenario, one bar for each server. */
export function throughputChart(figures: readonly Figures[], labels: readonly string[]): Chart {
  const values = figures.map(({ scenario, target, tokensPerSecond }) => ({ scenario, target, tokensPerSecond }));
  return {
    name: "throughput",
    caption: "Generated tokens per second, all connections together",
    spec: {
      data: { values },
      mark: "bar",
      width: { step: labels.length === 1 ? 60 : 40 },
      height: 240,
      encoding: {
        x: { field: "scenario", type: "nominal", sort: null, title: null, axis: { labelAngle: 0 } },
        y: { field: "tokensPerSecond", type: "quantitative", title: "tokens/s" },
        ...(labels.length === 1
          ? {}
          : {
              xOffset: { field: "target", type: "nominal", sort: null },
              color: { field: "target", type: "nominal", sort: null, title: "server" },
            }),
      },
    },
  };
}

/** How many of the answers were as fast as that: one curve for each scenario and server. */
export function latencyChart(trials: readonly (readonly Trial[])[], labels: readonly string[]): Chart {
  const values = trials.flatMap((ofOne) => {
    const [trial] = ofOne;
    const samples = samplesOf(ofOne);
    return KINDS.flatMap(([kind, time]) => {
      const times = samples[kind];
      if (trial === undefined || times.length === 0) return [];
      const { scenario, target } = trial;
      // A read may bring two tokens at once, and there is no 0 on a logarithmic scale.
      const at = (share: number) => Math.max(0.1, quantileSorted(times, share));
      return SHARES.map((share) => ({ scenario, target, time, share, ms: at(share) }));
    });
  });
  return {
    name: "latency",
    caption: "Share of answers (of tokens, for the times between them) that took no longer than so many milliseconds",
    spec: {
      data: { values },
      mark: { type: "line", interpolate: "step-after" },
      width: 260,
      height: 220,
      encoding: {
        column: { field: "time", type: "nominal", sort: KINDS.map(([, time]) => time), title: null },
        x: { field: "ms", type: "quantitative", scale: { type: "log", nice: false }, title: "ms" },
        y: { field: "share", type: "quantitative", axis: { format: "%" }, title: null },
        color: { field: "scenario", type: "nominal", sort: null },
        ...(labels.length === 1
          ? {}
          : { strokeDash: { field: "target", type: "nominal", sort: null, title: "server" } }),
      },
      resolve: { scale: { x: "independent" } },
    },
  };
}
