import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import type { DescribedModel } from "./architectures/architecture.js";
import { describeModel } from "./architectures/index.js";
import type { Checkpoint } from "./checkpoint.js";
import { ModelFormatError } from "./errors.js";
import { buildDecode } from "./graphs.js";
import type { HookName } from "./hooks.js";
import { type ModelSource, openModelSource } from "./model-source.js";
import { openSae } from "./sae/index.js";
import { openTokenizer } from "./tokenizer.js";
import { type Precision, WeightPlan } from "./weight-plan.js";

/** Elements of a tensor that are read at a time. */
const PIECE = 1 << 20;

/** One thing that loading a model depends on. `refused`: loading would end with the reason. */
export interface Check {
  readonly about: "config" | "generation" | "weights" | "values" | "tokenizer" | "chat template" | "SAE";
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
  readonly stored: { readonly bytes: number; readonly types: Readonly<Record<string, number>> } | null;
  readonly needs: {
    /** Of the weights as they are compiled: on the disk, and mapped from there. */
    readonly weightBytes: number;
    /** Keys and values of one text that fills the window. */
    readonly cacheBytes: number;
    readonly window: number;
  } | null;
}

export interface InspectOptions {
  readonly path: string;
  readonly precision: Precision;
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
}

/**
 * Goes through what loading a model goes through, without compiling it or writing anything, and on after a refusal: each
 * check says what it found. Takes the memory of a tensor's piece, of the tokenizer, and of one SAE at a time.
 */
export async function inspectModel(options: InspectOptions): Promise<Inspection> {
  const checks: Check[] = [];
  const check = <T>(about: Check["about"], find: () => { found: T; finding: string }): T | null => {
    try {
      const { found, finding } = find();
      checks.push({ about, verdict: found === null ? "absent" : "ok", finding });
      return found;
    } catch (error) {
      checks.push({ about, verdict: "refused", finding: reasonOf(error) });
      return null;
    }
  };
  const { path, precision, sinks } = options;
  const source = check("config", () => ({ found: openModelSource(path), finding: "" }));
  checks.length = source === null ? 1 : 0;
  const result = {
    path: source?.path ?? path,
    checks,
    architecture: null,
    parameters: null,
    stored: null,
    needs: null,
  };
  if (source === null) return result;
  const model = check("config", () => {
    const found = describeModel(source.config());
    return { found, finding: shapeOf(found) };
  });
  check("generation", () => ({ found: source.generation(), finding: "defaults of sampling and end tokens" }));
  const plan = model === null ? null : planOf(model, precision);
  const stored = await checkWeights(source, plan?.weights ?? null, options, check);
  if (model !== null) check("tokenizer", () => describeTokenizer(source, model.shape.vocabSize));
  check("chat template", () => describeTemplate(source));
  if (model !== null && plan !== null)
    for (const folder of options.saes ?? besides(source.path)) {
      const finding = await inspectSae(folder, model, plan.hooks);
      check("SAE", finding);
    }
  if (model === null || plan === null) return { ...result, stored };
  const { shape } = model;
  const window = options.window ?? Math.min(shape.trainedLength, options.largestWindow);
  const cacheBytes = shape.layers * shape.kvHeads * shape.headDim * 4 * (2 * (window + sinks) + sinks + 1);
  return {
    ...result,
    architecture: model.modelType,
    parameters: plan.parameters,
    stored,
    needs: { weightBytes: plan.weights.bytes, cacheBytes, window },
  };
}

type CheckOne = <T>(about: Check["about"], find: () => { found: T; finding: string }) => T | null;

async function checkWeights(
  source: ModelSource,
  plan: WeightPlan | null,
  { quick, onProgress }: InspectOptions,
  check: CheckOne,
): Promise<Inspection["stored"]> {
  const opened = check("weights", () => {
    const found = source.openCheckpoint();
    try {
      for (const { tensor, shape } of partsOf(plan)) found.expect(tensor, shape);
      const types = typesOf(found);
      const what = Object.entries(types).map(([type, count]) => `${count} ${type}`);
      return { found, finding: `${[...found.names()].length} tensors (${what.join(", ")})` };
    } catch (error) {
      found.close();
      throw error;
    }
  });
  if (opened === null) return null;
  using checkpoint = opened;
  if (!quick && plan !== null) {
    const broken = await brokenTensors(checkpoint, plan, onProgress ?? (() => {}));
    check("values", () => {
      if (broken instanceof Error) throw broken;
      return { found: true, finding: "every weight is a finite number" };
    });
  }
  const bytes = checkpoint.files.reduce((sum, file) => sum + statSync(file).size, 0);
  return { bytes, types: typesOf(checkpoint) };
}

async function brokenTensors(
  checkpoint: Checkpoint,
  plan: WeightPlan,
  onProgress: (share: number) => void,
): Promise<Error | null> {
  const parts = partsOf(plan);
  const broken: string[] = [];
  let file = "";
  try {
    for (const [i, { tensor, shape }] of parts.entries()) {
      const count = elements(shape);
      const buffer = new Float32Array(Math.min(PIECE, count));
      let finite = true;
      for (let at = 0; at < count && finite; at += PIECE) {
        const piece = buffer.subarray(0, Math.min(PIECE, count - at));
        checkpoint.readF32Into(tensor, at, piece);
        finite = piece.every(Number.isFinite);
      }
      if (!finite) broken.push(tensor);
      if (!finite && file === "") file = checkpoint.file(tensor);
      onProgress((i + 1) / parts.length);
      await new Promise(setImmediate);
    }
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
  return broken.length === 0 ? null : new ModelFormatError(file, `NaN or infinite values in ${broken.join(", ")}`);
}

function planOf(model: DescribedModel, precision: Precision) {
  const weights = new WeightPlan();
  const none = new Set<HookName>();
  const { hooks } = buildDecode(model, weights, {
    sinks: 0,
    precision,
    taps: none,
    edits: none,
    weightsFile: "weights",
  });
  const parameters = partsOf(weights).reduce((sum, { shape }) => sum + elements(shape), 0);
  return { weights, hooks, parameters };
}

/** Each tensor once, though a graph may use it in two layouts (tied embeddings). */
const partsOf = (plan: WeightPlan | null) => [
  ...new Map(
    [...(plan?.sources.values() ?? [])].flatMap(({ parts }) => parts).map((part) => [part.tensor, part]),
  ).values(),
];

function typesOf(checkpoint: Checkpoint): Record<string, number> {
  const types: Record<string, number> = {};
  for (const name of checkpoint.names()) types[checkpoint.dtype(name)] = (types[checkpoint.dtype(name)] ?? 0) + 1;
  return types;
}

function shapeOf({ modelType, shape }: DescribedModel): string {
  const { layers, hiddenSize, kvHeads, headDim, vocabSize, trainedLength } = shape;
  return `${modelType}, ${layers} layers of ${hiddenSize}, ${kvHeads} key-value heads of ${headDim}, ${vocabSize} tokens, trained on ${trainedLength}`;
}

function describeTokenizer(source: ModelSource, vocabSize: number) {
  const found = openTokenizer(source.path, vocabSize);
  return { found, finding: found === null ? "none: token ids go in and out" : "reads and writes text" };
}

function describeTemplate(source: ModelSource) {
  const found = source.chatTemplate();
  if (found === null) return { found, finding: "none: completions only" };
  try {
    new Template(found.template);
  } catch (error) {
    throw new ModelFormatError(found.file, `the chat template cannot be read: ${reasonOf(error)}`);
  }
  return { found, finding: `${found.template.length} characters of Jinja` };
}

async function inspectSae(folder: string, { shape }: DescribedModel, hooks: readonly HookName[]) {
  try {
    const { hook, dIn, dSae, activation, file, format } = await openSae(folder);
    return () => {
      if (!hook.tappable) throw new ModelFormatError(file, hook.reason);
      if (!hooks.includes(hook.name)) throw new ModelFormatError(file, `the model has no ${hook.name}`);
      if (dIn !== shape.hiddenSize)
        throw new ModelFormatError(file, `it reads ${dIn} numbers, and ${hook.name} has ${shape.hiddenSize}`);
      return { found: hook.name, finding: `${hook.name}: ${dSae} features of ${dIn}, ${activation.kind}, ${format}` };
    };
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

/** Folders in `saes` of the model's folder, as the engine attaches them. */
function besides(path: string): string[] {
  const saes = join(path, "saes");
  if (!existsSync(saes)) return [];
  const entries = readdirSync(saes, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(saes, name));
}

const elements = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
