import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SetupError } from "../../runtime/contract/errors.js";
import type { LabModel } from "../model/lab-model.js";
import type { LabSae } from "../model/open-saes.js";
import { textStart } from "../model/text-start.js";
import { FeatureStatistics } from "./feature-statistics.js";

/** Lies beside the files of an SAE. */
export const FEATURES_FILE = "features.jsonl";

/** Tokens of contexts that are run together. */
const TOKENS_AT_ONCE = 2048;
/** Lines are written in pieces of about so many characters. */
const PIECE = 1 << 20;

export interface FeaturesOptions {
  /** Tokens that are read, those before each text not counted. Default: a million. */
  readonly tokens?: number;
  /** Contexts kept of each feature. Default: 5. */
  readonly contexts?: number;
  /** Tokens of each that are kept. Default: 32. */
  readonly window?: number;
  /** Is told the share of the tokens that is read. */
  readonly onProgress?: (share: number) => void;
}

/** A text to read, as `Contexts` gives it. */
interface ContextSource {
  next(): Promise<{ readonly ids: ArrayLike<number> } | null>;
}

/**
 * Reads a text once and writes features.jsonl beside each SAE: what every feature is active on. Fewer tokens are read where the
 * text has fewer. A file that is there is replaced when the new one is whole.
 * @returns tokens read
 * @throws SetupError where the text is empty, the model computes a number that is not finite, or a file cannot be written
 */
export async function writeFeatures(
  model: LabModel,
  saes: readonly Pick<LabSae, "hook" | "folder" | "coder">[],
  source: ContextSource,
  { tokens = 1_000_000, contexts = 5, window = 32, onProgress }: FeaturesOptions = {},
): Promise<number> {
  const start = textStart(model.compiled).length;
  const gathered = saes.map((sae) => ({
    ...sae,
    statistics: new FeatureStatistics(sae.coder.sae.description.dSae, { contexts, window }),
  }));
  let read = 0;
  while (read < tokens) {
    const batch = await nextBatch(source);
    if (batch.length === 0) break;
    read += addBatch(model, batch, start, gathered);
    onProgress?.(Math.min(1, read / tokens));
    await new Promise(setImmediate);
  }
  if (read === 0) throw new SetupError("there is no text to find features in");
  for (const { folder, statistics } of gathered) write(join(folder, FEATURES_FILE), statistics);
  return read;
}

type Gathered = Pick<LabSae, "hook" | "coder"> & { readonly statistics: FeatureStatistics };

/** @returns the tokens that count */
function addBatch(
  model: LabModel,
  batch: readonly ArrayLike<number>[],
  start: number,
  gathered: readonly Gathered[],
): number {
  const residuals = model.activations(batch);
  const length = batch[0]!.length;
  const counted = batch.map((ids) => Array.from(ids).slice(start));
  for (const { hook, coder, statistics } of gathered) {
    const codes = coder.encode(residuals.get(hook) ?? new Float32Array());
    if (!codes.norms.every(Number.isFinite))
      throw new SetupError(`${hook} of ${model.name} holds a number that is not finite`);
    for (const [i, ids] of counted.entries()) statistics.add(ids, codes, i * length + start);
  }
  return batch.length * (length - start);
}

/** Contexts to run together, all of one length; none where the text is at its end. */
async function nextBatch(source: ContextSource): Promise<ArrayLike<number>[]> {
  const batch: ArrayLike<number>[] = [];
  do {
    const context = await source.next();
    if (context === null) break;
    batch.push(context.ids);
  } while ((batch.length + 1) * batch[0]!.length <= TOKENS_AT_ONCE);
  return batch;
}

function write(path: string, statistics: FeatureStatistics): void {
  const unfinished = `${path}.new`;
  try {
    const file = openSync(unfinished, "w");
    try {
      let piece = "";
      for (const line of statistics.lines()) {
        piece += `${JSON.stringify(line)}\n`;
        if (piece.length < PIECE) continue;
        writeFileSync(file, piece);
        piece = "";
      }
      writeFileSync(file, piece);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(unfinished, path);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw new SetupError(`${path} cannot be written: ${error instanceof Error ? error.message : error}`);
  }
}
