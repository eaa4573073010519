import type { Report, Table } from "../../loadtest/report/report.js";
import type { Evaluation, SaeEvaluation } from "./evaluation.js";
import { evaluationCharts } from "./evaluation-charts.js";
import { evaluationJson, mean } from "./evaluation-json.js";
import type { EvaluationAbout } from "./sae-bench-output.js";

const MEDIAN = 4;

/** A line of the table: what it is called, and what it says of an SAE. */
type Line = readonly [name: string, of: (evaluation: SaeEvaluation) => string];

const digits = (value: number, count = 4): string => (Number.isFinite(value) ? value.toPrecision(count) : "-");
const fixed = (value: number, places: number): string => (Number.isFinite(value) ? value.toFixed(places) : "-");

const LINES: readonly Line[] = [
  ["hook", ({ sae }) => sae.hook],
  ["features", ({ sae }) => String(sae.compiled.description.dSae)],
  ["unexplained variance", ({ reconstruction }) => fixed(reconstruction.unexplainedVariance, 4)],
  ["mse", ({ reconstruction }) => digits(reconstruction.mse)],
  ["mse, normalised", ({ reconstruction }) => digits(reconstruction.mseNormalised)],
  ["cosine", ({ reconstruction }) => fixed(reconstruction.cosine, 4)],
  ["l2 ratio", ({ reconstruction }) => fixed(reconstruction.l2Ratio, 4)],
  ["relative bias", ({ reconstruction }) => fixed(reconstruction.relativeReconstructionBias, 4)],
  ["l0", ({ reconstruction }) => fixed(reconstruction.l0, 2)],
  ["l1", ({ reconstruction }) => digits(reconstruction.l1)],
  ["alive share", ({ features }) => fixed(features.aliveShare, 4)],
  ["active at over 1 % of tokens", ({ features }) => fixed(features.over1Percent, 4)],
  ["largest decoder cosine, mean", ({ weights }) => fixed(mean(weights.largestDecoderCosines), 4)],
  ["CE spliced", ({ spliced }) => fixed(spliced.ce, 4)],
  ["KL spliced", ({ spliced }) => fixed(spliced.kl, 4)],
  ["CE recovered of zeros", ({ spliced }) => fixed(spliced.recovered.zero.ce, 4)],
  ["KL recovered of zeros", ({ spliced }) => fixed(spliced.recovered.zero.kl, 4)],
  ["CE recovered of the mean", ({ spliced }) => fixed(spliced.recovered.mean.ce, 4)],
  ["KL recovered of the mean", ({ spliced }) => fixed(spliced.recovered.mean.kl, 4)],
  ["CE recovered of zeros at all tokens", ({ spliced }) => fixed(spliced.recovered.zeroEverywhere.ce, 4)],
  ["KL recovered of zeros at all tokens", ({ spliced }) => fixed(spliced.recovered.zeroEverywhere.kl, 4)],
  ["(h - 1) eps_LBO, mean", (evaluation) => digits(scaled(evaluation, evaluation.epsLbo.mean), 3)],
  ["(h - 1) eps_LBO, median", (evaluation) => digits(scaled(evaluation, evaluation.epsLbo.quantiles[MEDIAN]), 3)],
  ["inside the ZF band 0.25", ({ zf }) => fixed(zf.inside[0] ?? Number.NaN, 4)],
];

const scaled = ({ sae }: SaeEvaluation, value = Number.NaN) => (sae.compiled.description.dSae - 1) * value;

/** The metrics of SAEs side by side, and of all layers at once where that was asked for. */
export function evaluationTables(evaluation: Evaluation, about: EvaluationAbout): Table[] {
  const { saes, allLayers } = evaluation;
  const table: Table = {
    title: maskSentence(evaluation, about),
    columns: ["", ...saes.map(({ sae }) => sae.id)],
    rows: LINES.map(([name, of]) => [name, ...saes.map(of)]),
  };
  if (allLayers === null) return [table];
  const { spliced, inside } = allLayers;
  const { zero } = spliced.recovered;
  return [
    table,
    {
      title: `All at once: CE ${fixed(spliced.ce, 4)}, KL ${fixed(spliced.kl, 4)}; recovered of zeros: CE ${fixed(zero.ce, 4)}, KL ${fixed(zero.kl, 4)}. Each against the residual that came in:`,
      columns: ["", "unexplained variance", "mse", "cosine", "l0"],
      rows: inside.map(({ sae, reconstruction: of }) => [
        sae.id,
        ...[fixed(of.unexplainedVariance, 4), digits(of.mse), fixed(of.cosine, 4), fixed(of.l0, 2)],
      ]),
    },
  ];
}

/** What is counted, and how well the model does without any SAE. */
function maskSentence({ skipStart, tokens, contexts, clean }: Evaluation, about: EvaluationAbout): string {
  const number = (value: number) => value.toLocaleString("en");
  const left =
    skipStart === 0
      ? "every token of a context is spliced and counted, the first one too"
      : `the first ${skipStart === 1 ? "token of each is" : `${skipStart} tokens of each are`} neither spliced nor counted`;
  return `SAEs of ${about.model.name} on ${number(tokens)} tokens of ${number(contexts)} contexts of ${about.context}; ${left}. CE without SAEs: ${fixed(clean.ce, 4)} nat`;
}

/** @param warnings about SAEs that explain less than the mean */
export const evaluationReport = (
  evaluation: Evaluation,
  about: EvaluationAbout,
  warnings: readonly string[],
): Report => ({
  name: "eval",
  title: `SAEs of ${about.model.name}`,
  about: [
    `Text: ${about.text.join(", ")} (${about.part}). Precision: ${about.model.precision}. Sums run over all counted tokens; the definition of each line is in docs/lab.md.`,
    ...warnings,
  ],
  tables: evaluationTables(evaluation, about),
  charts: evaluationCharts(evaluation),
  data: { ...about, ...evaluationJson(evaluation) },
});
