import { createHash } from "node:crypto";
import { CacheError } from "../../models/cache/cache-error.js";
import type { MeasuredFiles } from "../../models/compile.js";
import { LambdaCache } from "../cache/lambda-cache.js";
import { calibrationTexts } from "../calibration/calibration-texts.js";
import type { SaeCard } from "../contract/features.js";
import type { Runner } from "../graphs/runner.js";
import { runTapped } from "../graphs/tap-outputs.js";
import type { AttachedSaes, TappedRows } from "../saes/attached-saes.js";
import { unexplainedWarning } from "../saes/unexplained-variance.js";
import { VarianceSum } from "../saes/variance-sum.js";

/** Raised when the same SAE would be measured otherwise. */
const VERSION = 1;
/** Tokens of the text that are read, and how many at its beginning, which are outliers in many models, do not count. */
const TOKENS = 256;
const STARTING = 10;
/** Products of numbers with W_enc that the start of a server can wait for; of a wide SAE fewer tokens are read. */
const MOST_PRODUCTS = 1e10;
/** Of fewer tokens the variance says nothing. */
const FEWEST = 32;

/**
 * A sentence for each SAE that reconstructs its place in the beginning of the calibration text worse than the mean vector
 * does, so that somebody who attached it with the wrong settings hears of it before its features are believed. An SAE is
 * measured once for each model, and the figure kept beside the model's weights.
 * @param ids of the text
 */
export function unexplainedSaes(runner: Runner, saes: AttachedSaes, sinks: number, ids: ArrayLike<number>): string[] {
  const { measured } = runner.model;
  const text = calibrationTexts(runner.model, ids)[0]?.slice(0, TOKENS) ?? [];
  const figures = new Map<SaeCard, number | null>();
  for (const card of saes.cards) {
    const known = measured.read(fileOf(card, saes, text));
    if (known !== null) figures.set(card, Number(Buffer.from(known).toString()));
  }
  const unknown = saes.cards.filter((card) => !figures.has(card));
  for (const [card, unexplained] of measure(runner, saes, unknown, sinks, text)) {
    figures.set(card, unexplained);
    if (unexplained !== null) keep(measured, fileOf(card, saes, text), String(unexplained));
  }
  return [...figures].flatMap(([card, figure]) => (figure === null ? [] : (unexplainedWarning(card, figure) ?? [])));
}

/** Where the figure of an SAE is kept, which depends on its weights, its place and the text. */
function fileOf({ id, hook, precision }: SaeCard, saes: AttachedSaes, text: readonly number[]): string {
  const measured = JSON.stringify([saes.contents.get(id), hook, precision, text]);
  return `unexplained-v${VERSION}-${createHash("sha256").update(measured).digest("hex").slice(0, 16)}`;
}

/** In a cache that cannot be written to it is measured again. */
function keep(files: MeasuredFiles, name: string, figure: string): void {
  try {
    files.write(name, Buffer.from(figure));
  } catch (error) {
    if (!(error instanceof CacheError)) throw error;
  }
}

function measure(
  runner: Runner,
  saes: AttachedSaes,
  cards: readonly SaeCard[],
  sinks: number,
  text: readonly number[],
): (readonly [SaeCard, number | null])[] {
  if (cards.length === 0) return [];
  const { model, device } = runner;
  // Not by `openCache`, so that nothing is loaded that is not needed anyway.
  using cache = new LambdaCache(model.shape, { window: TOKENS, sinks }, runner.kv, device, false);
  return runTapped(
    device,
    (residuals) => runner.prefill(cache, cache.allocate(), text, [], { residuals }),
    (residuals) => cards.map((card) => [card, unexplainedBy(saes, card, residuals, text.length)] as const),
  ).read;
}

/** Sum of |x - x'|^2 by sum of |x - mean|^2; null where too few tokens can be read. */
function unexplainedBy(
  saes: AttachedSaes,
  { id, hook, dIn, dSae }: SaeCard,
  residuals: TappedRows,
  tokens: number,
): number | null {
  const end = Math.min(tokens, STARTING + Math.floor(MOST_PRODUCTS / (dIn * dSae)));
  if (end - STARTING < FEWEST) return null;
  const request = { saes: [id], activation: { kind: "native" }, top: 0, prompt: true } as const;
  const asked = Array.from({ length: end }, (_, token) => (token < STARTING ? null : request));
  const readings = saes.readStep(asked, residuals).slice(STARTING);
  const rows = residuals.get(hook) ?? new Float32Array();
  const x = rows instanceof Float32Array ? rows : rows.read(new Float32Array(rows.size));
  const variance = new VarianceSum(dIn);
  variance.add(x.subarray(STARTING * dIn, end * dIn));
  const errors = readings.reduce((sum, [reading]) => sum + (reading?.mse ?? Number.NaN) * dIn, 0);
  return errors / variance.total;
}
