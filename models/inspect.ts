import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { DescribedModel } from "./architectures/architecture.js";
import { describeModel } from "./architectures/index.js";
import { turnsSinks } from "./attention/attention.js";
import { type Jinja, startJinja } from "./chat/jinja.js";
import { ModelFormatError } from "./errors.js";
import { planWeights } from "./graphs.js";
import type { HookName } from "./hooks.js";
import { parametersOf, partsOf, readThrough, typesOf } from "./inspect-weights.js";
import { type KvChoice, kvName, kvProblem, resolveKv } from "./keys-values/kv-choice.js";
import { type KvType, kvBytes } from "./keys-values/kv-format.js";
import type { ModelShape } from "./model-shape.js";
import { type ModelSource, openModelSource } from "./model-source.js";
import { centringProblem, forIgnoredMean } from "./sae/centring.js";
import { openSae } from "./sae/formats/index.js";
import { openStored } from "./stored-model.js";
import { openTokenizer } from "./tokenizer/tokenizer.js";
import {
  type AskedPrecision,
  activationBytes,
  activationsOf,
  type Machine,
  type Precision,
  precisionProblem,
  resolvePrecision,
} from "./weights/block-format.js";
import { unreadSentence } from "./weights/tensor-names.js";
import type { WeightPlan } from "./weights/weight-plan.js";

/** One thing that serving a model depends on. `refused`: loading would end with the reason, or for a chat template chats. */
export interface Check {
  readonly about:
    | "precision"
    | "keys and values"
    | "config"
    | "generation"
    | "weights"
    | "values"
    | "tokenizer"
    | "chat template"
    | "SAE";
  readonly verdict: "ok" | "refused" | "absent";
  /** What was found, or the reason of a refusal. */
  readonly finding: string;
}

/** What a model is and takes; what could not be found out, because a check before it failed, is null. */
export interface Inspection {
  readonly path: string;
  readonly checks: readonly Check[];
  readonly architecture: string | null;
  readonly parameters: number | null;
  /** What the weights would run in. */
  readonly precision: Precision | null;
  readonly stored: { readonly bytes: number; readonly types: Readonly<Record<string, number>> } | null;
  readonly needs: {
    /** Of the weights as they are compiled: on the disk, and mapped from there. */
    readonly weightBytes: number;
    /** Keys and values of one text that fills the window. */
    readonly cacheBytes: number;
    /** What they are kept in. */
    readonly kv: Exclude<KvChoice, "auto">;
    readonly window: number;
  } | null;
}

export interface InspectOptions extends Machine {
  readonly path: string;
  readonly precision: AskedPrecision;
  /** What keys and values are to be kept in; left out: auto. */
  readonly kv?: KvChoice;
  /** Left out: as the engine chooses it, at most `largestWindow`. */
  readonly window?: number | undefined;
  readonly largestWindow: number;
  readonly sinks: number;
  /** Folders of SAEs; left out: those beside the model. */
  readonly saes?: readonly string[] | undefined;
  /** Do not read every weight for NaN and infinite values. */
  readonly quick: boolean;
  /** Called with the share of the weights read, 0 to 1. */
  readonly onProgress?: (share: number) => void;
  /** Opens the tokenizer and closes it again; left out: in this process, which a hostile file can end. */
  readonly tryTokenizer?: (path: string, vocabSize: number) => Promise<"ok" | "absent">;
}

/** What a check found, `null` where the model has no such thing, and how it is told. */
interface Found<T> {
  readonly found: T;
  readonly finding: string;
}

/**
 * Goes through what loading a model goes through, without compiling it or writing anything, and on after a refusal: each
 * check says what it found. Takes the memory of a tensor's piece, of the tokenizer, and of one SAE at a time.
 */
export async function inspectModel(options: InspectOptions): Promise<Inspection> {
  const { path } = options;
  const checks: Check[] = [];
  const check: CheckOne = async (about, find) => {
    try {
      const { found, finding } = await find();
      checks.push({ about, verdict: found === null ? "absent" : "ok", finding });
      return found;
    } catch (error) {
      checks.push({ about, verdict: "refused", finding: reasonOf(error) });
      return null;
    }
  };
  const problem = precisionProblem(options.precision, options.device ?? "cpu");
  if (problem !== null) checks.push({ about: "precision", verdict: "refused", finding: problem });
  let source: ModelSource | null = null;
  const model = await check("config", () => {
    source = openModelSource(path);
    const found = describeModel(source.config());
    return { found, finding: shapeOf(found) };
  });
  return source === null ? { path, checks, ...UNKNOWN } : inspectParts(source, model, options, checks, check);
}

type CheckOne = <T>(about: Check["about"], find: () => Found<T> | Promise<Found<T>>) => Promise<T | null>;

const UNKNOWN = { architecture: null, parameters: null, precision: null, stored: null, needs: null };

async function inspectParts(
  source: ModelSource,
  configured: DescribedModel | null,
  options: InspectOptions,
  checks: Check[],
  check: CheckOne,
): Promise<Inspection> {
  const { model, dtypes } = asStored(source, configured);
  const precision = resolvePrecision(options.precision, dtypes.values(), options);
  const planned = model === null ? null : planWeights(model, { precision, dtypes, device: options.device ?? "cpu" });
  await check("generation", () => {
    const found = source.generation();
    return { found, finding: ["defaults of sampling and end tokens", ...(found.notices ?? [])].join("; ") };
  });
  const stored = await inspectWeights(source, model, planned?.plan ?? null, options, check);
  if (model !== null) await check("tokenizer", () => describeTokenizer(source, model.shape.vocabSize, options));
  await check("chat template", () => describeTemplate(source));
  const inspection = { path: source.path, checks, ...UNKNOWN, stored };
  if (model === null || planned === null) return inspection;
  for (const folder of options.saes ?? besides(source.path))
    await check("SAE", () => inspectSae(folder, model, planned.hooks));
  const { kv: asked = "auto", device = "cpu", sinks } = options;
  const setting = { precision, device, headDim: model.shape.headDim };
  const problem = kvProblem(asked, setting);
  if (problem !== null) checks.push({ about: "keys and values", verdict: "refused", finding: problem });
  const kv = resolveKv(asked, setting);
  const window = options.window ?? Math.min(model.shape.trainedLength, options.largestWindow);
  return {
    ...inspection,
    architecture: model.modelType,
    parameters: parametersOf(planned.plan),
    precision,
    needs: {
      weightBytes: planned.plan.bytes,
      cacheBytes: cacheBytes(model.shape, kv, { window, sinks, unrotated: activationBytes(activationsOf(precision)) }),
      kv: kvName(kv),
      window,
    },
  };
}

/** The model as its tensors have it, and how each is stored; nothing of them where they cannot be opened, which a check says. */
function asStored(
  source: ModelSource,
  configured: DescribedModel | null,
): { readonly model: DescribedModel | null; readonly dtypes: ReadonlyMap<string, string> } {
  try {
    const { model, checkpoint } = openWeights(source, configured);
    using opened = checkpoint;
    return { model, dtypes: new Map([...opened.names()].map((name) => [name, opened.dtype(name)])) };
  } catch {
    return { model: configured, dtypes: new Map() };
  }
}

const openWeights = (source: ModelSource, model: DescribedModel | null) =>
  model === null ? { model, checkpoint: source.openCheckpoint() } : openStored(source, model);

async function inspectWeights(
  source: ModelSource,
  model: DescribedModel | null,
  plan: WeightPlan | null,
  { quick, onProgress }: InspectOptions,
  check: CheckOne,
): Promise<Inspection["stored"]> {
  const opened = await check("weights", () => {
    const found = openWeights(source, model).checkpoint;
    try {
      for (const { tensor, shape } of partsOf(plan)) found.expect(tensor, shape);
      const types = Object.entries(typesOf(found)).map(([type, count]) => `${count} ${type}`);
      const unread = model && plan ? unreadSentence(found, model.names, plan) : null;
      const finding = `${[...found.names()].length} tensors (${types.join(", ")})`;
      return { found, finding: unread === null ? finding : `${finding}; ${unread}` };
    } catch (error) {
      found.close();
      throw error;
    }
  });
  if (opened === null) return null;
  using checkpoint = opened;
  if (!quick && plan !== null)
    await check("values", async () => {
      await readThrough(checkpoint, plan, onProgress ?? (() => {}));
      return { found: true, finding: "every weight is a finite number" };
    });
  const bytes = checkpoint.files.reduce((sum, file) => sum + statSync(file).size, 0);
  return { bytes, types: typesOf(checkpoint) };
}

/**
 * Bytes of one text that fills the windows: keys and values, and where starting tokens are turned their unrotated keys.
 * @param unrotated bytes of a number of these
 */
function cacheBytes(
  { kvHeads, headDim, geometries, layerGeometries }: ModelShape,
  kv: KvType,
  { window, sinks, unrotated }: { readonly window: number; readonly sinks: number; readonly unrotated: number },
): number {
  const perHead = layerGeometries.reduce((sum, index) => {
    const geometry = geometries[index]!;
    const slots = geometry.window === "lambda" ? window + sinks : geometry.window;
    const turned = turnsSinks(geometry, sinks) ? sinks * headDim * unrotated : 0;
    return sum + 2 * slots * kvBytes(kv, headDim) + turned;
  }, 0);
  return perHead * kvHeads;
}

function shapeOf({ modelType, shape }: DescribedModel): string {
  const { layers, hiddenSize, kvHeads, headDim, vocabSize, trainedLength } = shape;
  return `${modelType}, ${layers} layers of ${hiddenSize}, ${kvHeads} key-value heads of ${headDim}, ${vocabSize} tokens, trained on ${trainedLength}`;
}

async function describeTokenizer(source: ModelSource, vocabSize: number, { tryTokenizer = openHere }: InspectOptions) {
  const found = (await tryTokenizer(source.path, vocabSize)) === "absent" ? null : "ok";
  return { found, finding: found === null ? "none: token ids go in and out" : "reads and writes text" };
}

const openHere = async (path: string, vocabSize: number) =>
  (await openTokenizer(path, vocabSize)) === null ? "absent" : "ok";

/** Loaded once, because that takes seconds. */
let jinja: Promise<Jinja> | null = null;

async function describeTemplate(source: ModelSource) {
  const found = source.chatTemplate();
  if (found === null) return { found, finding: "none: completions only" };
  jinja ??= startJinja();
  const checked = (await jinja).check(found.template);
  if (checked.type !== "accepted")
    throw new ModelFormatError(found.file, `the chat template is not supported: ${checked.message}`);
  return { found, finding: `${found.template.length} characters of Jinja` };
}

async function inspectSae(folder: string, model: DescribedModel, hooks: readonly HookName[]) {
  const { shape } = model;
  const sae = await openSae(folder);
  const { hook, dIn, dSae, activation, file, format } = shape.ignoresMean === "always" ? forIgnoredMean(sae) : sae;
  const problem = centringProblem(sae, model);
  if (problem !== null) throw new ModelFormatError(file, problem);
  if (!hook.tappable) throw new ModelFormatError(file, hook.reason);
  if (!hooks.includes(hook.name)) throw new ModelFormatError(file, `the model has no ${hook.name}`);
  if (dIn !== shape.hiddenSize)
    throw new ModelFormatError(file, `it reads ${dIn} numbers, and ${hook.name} has ${shape.hiddenSize}`);
  return { found: hook.name, finding: `${hook.name}: ${dSae} features of ${dIn}, ${activation.kind}, ${format}` };
}

/** Folders in `saes` of the model's folder, as the engine attaches them. */
function besides(path: string): string[] {
  const saes = join(path, "saes");
  if (!existsSync(saes)) return [];
  const entries = readdirSync(saes, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(saes, name));
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
