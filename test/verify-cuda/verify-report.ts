import type { Report } from "../../loadtest/report/report.js";
import { type Findings, toTable } from "./findings.js";

/** A section, and what came of it so far. */
export interface Outcome {
  readonly name: string;
  readonly about: string;
  readonly findings: Findings;
  seconds: number;
  /** Why it ended early; null where it did not. */
  failure: string | null;
}

/** Whether every section came to its end with every goal met. */
export const isMet = (outcomes: readonly Outcome[]): boolean =>
  outcomes.every(({ failure, findings }) => failure === null && findings.goals.every(({ met }) => met));

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
      ...outcomes.map(describe),
    ],
    tables: outcomes.flatMap(({ findings }) => findings.tables.map(toTable)),
    charts: [],
    data: {
      about,
      sections: outcomes.map(({ name, about: section, findings: { tables, notes }, seconds, failure }) => ({
        name,
        about: section,
        seconds,
        failure,
        notes,
        tables,
      })),
    },
  };
}

function describe({ name, about, findings, seconds, failure }: Outcome): string {
  const took = failure === null ? `${seconds.toFixed(1)} s` : `failed after ${seconds.toFixed(1)} s: ${failure}`;
  return [`**${name}** (${took}). ${about}`, ...findings.notes].join(" ");
}
