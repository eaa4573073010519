import { createHash } from "node:crypto";
import { z } from "zod";
import type { CompiledModel } from "../../models/compile.js";
import { Runner } from "../graphs/runner.js";
import { calibrationTexts } from "./calibration-texts.js";
import { calibrationLength } from "./kv-ranges-of.js";
import { textNlls } from "./text-nll.js";

/** Raised when the same texts would be read otherwise. */
const VERSION = 1;
/** How much of the NLL integers may cost beside blocks, which cost up to 0.2 %: together they are to stay within 0.5 %. */
const MOST = 0.004;
/** Standard errors that a loss must lie beyond it: a text of 2,000 tokens tells it to 0.2 %. */
const SURE = 2;

/** JSON has null for what is not finite. */
const finiteOrNull = z
  .number()
  .nullable()
  .transform((value) => value ?? Number.NaN);

/** What products of integers cost beside those of blocks: a share of the NLL of a text, and its standard error. */
const IntegerLoss = z.object({ share: finiteOrNull, error: finiteOrNull });
export type IntegerLoss = z.infer<typeof IntegerLoss>;

export interface IntegerLossOptions {
  /** Ids of the calibration text. */
  readonly ids: ArrayLike<number>;
  readonly threads: number;
  readonly spin?: boolean;
}

/** Whether integers surely cost more than they may. A loss that is no number is more than any. */
export const isTooMuch = ({ share, error }: IntegerLoss): boolean => !(share - SURE * error <= MOST);

/**
 * Reads the calibration text in both forms of 8 bits, once for each model: it is kept beside the weights of the integers.
 * @param blocks the same model in blocks, asked for where it has not been compared yet
 * @throws CacheError when the result cannot be kept.
 */
export async function integerLoss(
  integers: CompiledModel,
  blocks: () => Promise<CompiledModel>,
  { ids, ...threads }: IntegerLossOptions,
): Promise<IntegerLoss> {
  const texts = calibrationTexts(integers, ids);
  const hash = createHash("sha256").update(JSON.stringify(texts)).digest("hex").slice(0, 12);
  const name = `integer-loss-v${VERSION}-${hash}.json`;
  const known = parsed(integers.measured.read(name));
  if (known !== null) return known;
  const read = (model: CompiledModel): Float64Array => {
    using runner = new Runner(model, { window: calibrationLength(model.shape), ...threads });
    return textNlls(runner, texts);
  };
  const loss = lossOf(read(integers), read(await blocks()));
  integers.measured.write(name, Buffer.from(JSON.stringify(loss)));
  return loss;
}

/** Why a model is not to run in integers; null: it is. The same is kept and thrown as by `integerLoss`. */
export async function integerProblem(
  integers: CompiledModel,
  blocks: () => Promise<CompiledModel>,
  ids: ArrayLike<number> | null,
  threads: Omit<IntegerLossOptions, "ids">,
): Promise<string | null> {
  if (ids === null) return "it has no tokenizer, so what int8 changes of a text is not known";
  const loss = await integerLoss(integers, blocks, { ids, ...threads });
  if (!isTooMuch(loss)) return null;
  if (!Number.isFinite(loss.share))
    return "what int8 changes of the calibration text cannot be told: it has no NLL, or one that is not finite";
  const percent = (share: number) => (100 * share).toFixed(2);
  return `int8 changes the NLL of the calibration text by ${percent(loss.share)} ± ${percent(loss.error)} %`;
}

/** @param found NLL of each token, in integers; @param reference in blocks */
export function lossOf(found: Float64Array, reference: Float64Array): IntegerLoss {
  const mean = (values: Float64Array) => values.reduce((a, b) => a + b, 0) / values.length;
  const nll = mean(reference);
  const differences = found.map((value, i) => value - (reference[i] ?? Number.NaN));
  const difference = mean(differences);
  const variance = mean(differences.map((each) => (each - difference) ** 2));
  return { share: difference / nll, error: Math.sqrt(variance / differences.length) / nll };
}

function parsed(bytes: Uint8Array | null): IntegerLoss | null {
  if (bytes === null) return null;
  try {
    return IntegerLoss.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return null;
  }
}
