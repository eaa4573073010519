import { terminalTable } from "../../loadtest/report/report.js";
import { evaluationTables } from "./evaluation-report.js";
import type { FinishedEvaluation } from "./run-evaluation.js";
import { saeBenchOutput } from "./sae-bench-output.js";

/** The tables of an evaluation, for a terminal. */
export const evaluationText = ({ evaluation, about }: FinishedEvaluation): string =>
  `${evaluationTables(evaluation, about).map(terminalTable).join("\n\n")}\n`;

/** A line of JSON for each SAE, in SAEBench's schema. @param at as of `saeBenchOutput` */
export const evaluationLines = ({ evaluation, about }: FinishedEvaluation, at: number): string =>
  evaluation.saes.map((judged) => `${JSON.stringify(saeBenchOutput(evaluation, judged, about, at))}\n`).join("");
