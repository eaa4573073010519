import { accessSync, constants, mkdirSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeReport } from "../../loadtest/report/report.js";
import { SetupError } from "../../runtime/contract/errors.js";
import { unexplainedWarning } from "../../runtime/saes/unexplained-variance.js";
import { Contexts, type Part } from "../activations/contexts.js";
import { FEATURES_FILE, writeFeatures } from "../features/write-features.js";
import type { ModelChoice, Onlookers } from "../model/lab-model.js";
import { ModelWithSaes, type SaesChoice } from "../model/open-saes.js";
import { evaluate } from "./evaluate.js";
import type { Evaluation, SaeEvaluation } from "./evaluation.js";
import { evaluationReport } from "./evaluation-report.js";
import { type EvaluationAbout, saeBenchOutput } from "./sae-bench-output.js";
import { trainedOtherwise } from "./trained-otherwise.js";

export interface EvaluationChoice {
  readonly model: ModelChoice;
  readonly saes: SaesChoice;
  /** Files and folders. */
  readonly text: readonly string[];
  readonly part: Part;
  /** Counted tokens that are enough. */
  readonly tokens: number;
  /** Tokens of a context; left out: 128, or where they are held out as many as the model reads at once, as in training. */
  readonly context?: number | undefined;
  readonly skipStart: number;
  readonly allLayers: boolean;
  /** Tokens that features.jsonl beside each SAE is made of; left out: there is none. */
  readonly featureTokens?: number | undefined;
  /** Where a report, pictures and files in SAEBench's schema go. */
  readonly out?: string | undefined;
}

/** An evaluation as a command shows it. */
export interface FinishedEvaluation {
  readonly evaluation: Evaluation;
  readonly about: EvaluationAbout;
  /** Files that were written. */
  readonly written: readonly string[];
}

interface EvaluationOnlookers extends Onlookers {
  /** Of the evaluation. */
  readonly onShare?: (share: number) => void;
  /** Of features.jsonl. */
  readonly onFeatures?: (share: number) => void;
}

const CONTEXT = 128;

/**
 * Judges SAEs on a text, and writes what is said of them.
 * @param at when it is, ms since 1970, which files in SAEBench's schema name
 * @throws SetupError where text, SAEs or settings make no sense, or a folder cannot be written to, and as `ModelWithSaes.open`
 */
export async function runEvaluation(
  choice: EvaluationChoice,
  on: EvaluationOnlookers,
  at: number,
): Promise<FinishedEvaluation> {
  const { text, part, tokens, context: asked, skipStart, allLayers, featureTokens, out } = choice;
  if (out !== undefined) checkFolder(out, `--out ${out}`);
  using opened = await ModelWithSaes.open(choice.model, choice.saes, on);
  const { model } = opened;
  const own = opened.saes.find(({ folder }) => out !== undefined && realpathSync(folder) === realpathSync(out));
  if (own !== undefined)
    throw new SetupError(`--out ${out} is the folder of ${own.id}, which would be another SAE with a report in it`);
  if (featureTokens !== undefined) for (const { folder } of opened.saes) checkFolder(folder, folder);
  // Which contexts are held out depends on their length, so it is that of training where nobody says another.
  const context = asked ?? (part === "held-out" ? model.longestContext : Math.min(CONTEXT, model.longestContext));
  if (skipStart + 2 > context)
    throw new SetupError(`contexts of ${context} tokens have nothing to count behind the first ${skipStart}`);
  const contexts = async function* (onNotice?: (line: string) => void) {
    const source = Contexts.open(model, { text, context, part, onNotice });
    if (part === "held-out")
      for (const line of trainedOtherwise(opened.saes, { data: source.documents.hash, context })) onNotice?.(line);
    for (let next = await source.next(); next !== null; next = await source.next()) yield next.ids;
  };
  const settings = { skipStart, tokens, ...(allLayers ? { together: opened.saes } : {}) };
  let pass = 0;
  const evaluation = await evaluate(
    model,
    opened.saes,
    () => contexts(pass++ === 0 ? on.onNotice : undefined),
    settings,
    on.onShare === undefined ? {} : { onProgress: on.onShare },
  );
  if (evaluation.tokens < tokens)
    on.onNotice?.(`the text has ${evaluation.tokens} counted tokens, of ${tokens} that were asked for`);
  const { name, compiled } = model;
  const about = {
    model: { name, content: compiled.content, precision: compiled.precision },
    ...{ text, part, context },
  };
  const warnings = evaluation.saes.flatMap((judged) => warningOf(judged) ?? []);
  for (const warning of warnings) on.onNotice?.(warning);
  const written = out === undefined ? [] : await write(out, evaluation, about, warnings, at);
  if (featureTokens !== undefined) {
    const read = { tokens: featureTokens, ...(on.onFeatures ? { onProgress: on.onFeatures } : {}) };
    await writeFeatures(model, opened.saes, Contexts.open(model, { text, context, part }), read);
    written.push(...opened.saes.map(({ folder }) => join(folder, FEATURES_FILE)));
  }
  return { evaluation, about, written };
}

function warningOf({ sae: { id, hook, compiled }, reconstruction }: SaeEvaluation): string | null {
  const { normalisation, activation } = compiled.description;
  return unexplainedWarning(
    { id, hook, normalisation, activation: activation.kind },
    reconstruction.unexplainedVariance,
  );
}

async function write(
  folder: string,
  evaluation: Evaluation,
  about: EvaluationAbout,
  warnings: readonly string[],
  at: number,
): Promise<string[]> {
  const written = await writeReport(folder, evaluationReport(evaluation, about, warnings));
  const names = fileNames(evaluation.saes.map(({ sae }) => sae.id));
  for (const [i, judged] of evaluation.saes.entries()) {
    const path = join(folder, `${names[i]}_eval_results.json`);
    writeFileSync(path, `${JSON.stringify(saeBenchOutput(evaluation, judged, about, at), null, 1)}\n`);
    written.push(path);
  }
  return written;
}

/** Names as a file can have them, no two alike even where case does not count. */
function fileNames(ids: readonly string[]): string[] {
  const taken = new Set<string>();
  return ids.map((id) => {
    const plain = id.replaceAll(/[^\p{L}\p{N}_.@-]+/gu, "_");
    let name = plain;
    for (let next = 2; taken.has(name.toLowerCase()); next++) name = `${plain}_${next}`;
    taken.add(name.toLowerCase());
    return name;
  });
}

/** @throws SetupError where a folder cannot be made or written to: before hours of work, not after. */
function checkFolder(folder: string, name: string): void {
  try {
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK);
  } catch (error) {
    throw new SetupError(`${name} cannot be written to: ${error instanceof Error ? error.message : error}`);
  }
}
