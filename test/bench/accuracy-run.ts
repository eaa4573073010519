import { calibrationText } from "../../models/calibration/calibration-text.js";
import { type CompiledModel, compileModel } from "../../models/compile.js";
import type { KvFormat } from "../../models/keys-values/kv-format.js";
import { openTokenizer } from "../../models/tokenizer/tokenizer.js";
import type { Precision } from "../../models/weights/block-format.js";
import { openKvRanges } from "../../runtime/calibration/open-kv-ranges.js";
import type { SaeReading } from "../../runtime/contract/features.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { AttachedSaes } from "../../runtime/saes/attached-saes.js";
import { onCpu } from "../bfloat16-on-cpu.js";
import { benchFolder } from "./bench-model.js";
import { beyondRanges } from "./beyond-ranges.js";
import { heldOutTokens } from "./held-out-tokens.js";
import { textNll } from "./text-nll.js";

/** What a model runs in. */
export interface Form {
  readonly precision: Precision;
  /** null: keys and values as the activations. */
  readonly kv: "q8" | "q4" | null;
}

export interface TextOptions {
  /** Of the model. */
  readonly path: string;
  readonly tokens: number;
  readonly text: string | undefined;
  /** Left out: the trained length, at most 1,024. */
  readonly window: number | undefined;
  readonly threads: number;
}

export interface FormRun {
  /** Of every token but the first. */
  readonly nll: Float64Array;
  /** Of every token with each SAE beside the model. */
  readonly readings: readonly SaeReading[];
  /** Shares of the keys and of the values of the text's first tokens that are larger than 8 or 4 bits hold. */
  readonly beyond: { readonly keys: number; readonly values: number } | null;
}

const SINKS = 10;
/** Numbers of a chunk's logits, at most. */
const LOGITS = 1 << 24;
const LONGEST_CHUNK = 256;
/** Tokens whose keys and values are looked at. */
const COUNTED = 4096;

/** Reads a text with a model in one form; a CPU computes bf16 in f32, and rounds what each node gives. */
export async function runForm({ precision, kv }: Form, { path, ...options }: TextOptions): Promise<FormRun> {
  const model = await compileModel({ path, precision, cacheRoot: benchFolder("cache") });
  const { shape } = model;
  const { window = Math.min(shape.trainedLength, 1024), threads } = options;
  const ids = await heldOutTokens(path, shape, options.tokens, options.text);
  using saes = await attachSaes(path, model);
  const format = kv === null ? null : await kvFormat(path, model, kv, threads);
  const [runnable, geometry] = [precision === "bf16" ? onCpu(model) : model, { window, sinks: SINKS }];
  using runner = new Runner(runnable, { window, threads, kv: format, taps: saes.hooks });
  const request = {
    saes: saes.cards.map(({ id }) => id),
    top: 0,
    activation: { kind: "native" },
    prompt: true,
  } as const;
  const readings: SaeReading[] = [];
  const chunk = Math.min(window, LONGEST_CHUNK, Math.floor(LOGITS / shape.vocabSize));
  const nll = textNll(runner, ids, chunk, geometry, (residuals) => {
    readings.push(...saes.read(request, residuals).flat());
  });
  if (format === null) return { nll: nll.subarray(1), readings, beyond: null };
  using floats = new Runner(model, { window, threads });
  const beyond = beyondRanges(floats, ids.slice(0, COUNTED), geometry, format.ranges);
  return { nll: nll.subarray(1), readings, beyond };
}

/** The SAEs beside a model, whatever it is called. */
const attachSaes = (folder: string, model: CompiledModel): Promise<AttachedSaes> =>
  AttachedSaes.attach({
    choice: { folders: undefined, precision: "f32", anyModel: true },
    ...{ model, folder, names: [folder], cacheRoot: benchFolder("cache"), threads: 1, spin: false },
  });

async function kvFormat(path: string, model: CompiledModel, kv: "q8" | "q4", threads: number): Promise<KvFormat> {
  const tokenizer = await openTokenizer(path, model.shape.vocabSize);
  const ids = (await tokenizer?.encode(calibrationText(path).text)) ?? null;
  return { bits: kv === "q8" ? 8 : 4, ranges: openKvRanges(model, { ids, threads }) };
}
