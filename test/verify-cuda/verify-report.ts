import type { Report } from "../../loadtest/report/report.js";
import { type Findings, toTable } from "./findings.js";

/** A section, and what it has measured so far. */
export interface Outcome {
  readonly name: string;
  readonly about: string;
  readonly findings: Findings;
  seconds: number;
}

/** Whether every section came to its end with every goal met. */
export const isMet = (outcomes: readonly Outcome[]): boolean =>
  outcomes.every(({ findings }) => findings.failures.length === 0 && findings.goals.every(({ met }) => met));

/** Everything measured so far. @param about how it was run, in sentences */
export function verifyReport(outcomes: readonly Outcome[], about: readonly string[]): Report {
  const goals = outcomes.flatMap(({ findings }) => findings.goals);
  const missed = goals.filter(({ met }) => !met);
  return {
    name: "verify-cuda",
    title: "CUDA, verified",
    about: [
      ...about,
      `Goals met: ${goals.length - missed.length} of ${goals.length}.`,
      ...missed.map(({ name, goal }) => `Not met: ${name}: ${goal}.`),
      ...outcomes.flatMap(({ name, findings }) => findings.failures.map((each) => `Failed: ${name}: ${each}.`)),
      ...outcomes.map(describe),
    ],
    tables: outcomes.flatMap(({ findings }) => findings.tables.map(toTable)),
    charts: [],
    data: {
      about,
      sections: outcomes.map(({ name, about: section, findings: { tables, notes, failures }, seconds }) => ({
        name,
        about: section,
        seconds,
        failures,
        notes,
        tables,
      })),
    },
  };
}

function describe({ name, about, findings, seconds }: Outcome): string {
  return [`**${name}** (${seconds.toFixed(1)} s). ${about}`, ...findings.notes].join(" ");
}
