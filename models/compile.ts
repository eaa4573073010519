import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import type { DescribedModel } from "./architectures/architecture.js";
import { describeModel } from "./architectures/index.js";
import { putIntoEntry } from "./cache/cache-entry.js";
import { publish } from "./cache/compile-cache.js";
import { contentHash } from "./cache/content-hash.js";
import { ModelFormatError } from "./errors.js";
import type { GenerationConfig } from "./generation-config.js";
import type { ActivationsInterface, DecodeInterface, LensInterface, PrefillInterface } from "./graph-interface.js";
import { type BuiltGraph, buildActivations, buildDecode, buildLens, buildPrefill, planWeights } from "./graphs.js";
import type { HookName } from "./hooks.js";
import type { KvFormat } from "./keys-values/kv-format.js";
import type { ModelShape } from "./model-shape.js";
import { openModelSource } from "./model-source.js";
import type { ActivationType, WeightPlace } from "./onnx/graph.js";
import type { CuttingSae } from "./sae/edit-cut.js";
import { openStored, type StoredModel } from "./stored-model.js";
import {
  type AskedPrecision,
  activationsOf,
  type Machine,
  type Precision,
  resolvePrecision,
} from "./weights/block-format.js";
import { unreadSentence } from "./weights/tensor-names.js";
import type { WeightPlan } from "./weights/weight-plan.js";
import { writeWeights } from "./weights/weights-file.js";

/** Raised when the bytes of a weights file would come out differently from the same model and plan. */
const WEIGHTS_VERSION = 2;
const WEIGHTS_FILE = "weights.bin";

export interface CompileOptions extends Machine {
  /** Of the model. */
  readonly path: string;
  readonly precision: AskedPrecision;
  readonly cacheRoot: string;
  /** Is given what the model will be before a weight is read; what it throws is thrown. */
  readonly check?: (planned: Pick<CompiledModel, "precision" | "shape">) => void;
  /** Called with the share of the weights written; not at all where the cache has them. */
  readonly onProgress?: (share: number) => void;
}

/** A graph in the cache folder. */
export interface CompiledGraph<Interface> {
  readonly path: string;
  readonly interface: Interface;
}

/** Which graph of a model; left-out sets are empty, and nothing is retrieved. */
export interface GraphChoice {
  readonly sinks: number;
  readonly retrieval?: boolean;
  /** The same as in `GraphOptions`. */
  readonly kv?: KvFormat | null;
  readonly taps?: ReadonlySet<HookName>;
  readonly edits?: ReadonlySet<HookName>;
  readonly cuttingSaes?: readonly CuttingSae[];
}

/** A model whose weights lie in the cache, in the layout of its graphs; graphs are written as they are asked for. */
export interface CompiledModel {
  readonly modelType: string;
  /** sha256 (hex) over its config and its weights, as they lie in its files. */
  readonly content: string;
  readonly shape: ModelShape;
  readonly precision: Precision;
  /** What activations are computed in. */
  readonly activations: ActivationType;
  readonly generation: GenerationConfig;
  /** Where its files disagree, a sentence each. */
  readonly notices: readonly string[];
  readonly weights: {
    readonly path: string;
    readonly bytes: number;
    readonly places: ReadonlyMap<string, WeightPlace>;
  };
  /** Places that can be tapped, in running order. */
  readonly hooks: readonly HookName[];
  decode(options: GraphChoice): CompiledGraph<DecodeInterface>;
  prefill(
    options: GraphChoice & { readonly far: boolean; readonly patches?: ReadonlySet<HookName> },
  ): CompiledGraph<PrefillInterface>;
  /** What these hooks hold in whole texts. */
  reading(taps: ReadonlySet<HookName>): CompiledGraph<ActivationsInterface>;
  lens(): CompiledGraph<LensInterface>;
  readonly measured: MeasuredFiles;
}

/** What is measured of a compiled model once, in files beside its weights. */
export interface MeasuredFiles {
  /** null where there is no such file. */
  read(name: string): Uint8Array | null;
  /** Appears in one step. @throws CacheError when the cache cannot be written. */
  write(name: string, bytes: Uint8Array): void;
}

/**
 * Reads a model and makes sure that its weights are in the cache.
 * @throws ModelFormatError naming the file and what is wrong with it; CacheError when the cache cannot be written.
 */
export async function compileModel({
  path,
  precision: asked,
  cacheRoot,
  check,
  onProgress,
  ...machine
}: CompileOptions): Promise<CompiledModel> {
  const source = openModelSource(path);
  const asConfigured = describeModel(source.config());
  const generation = source.generation();
  checkFrame(generation, asConfigured.shape, source.path);
  const stored = openStored(source, asConfigured);
  const { model } = stored;
  using checkpoint = stored.checkpoint;
  const dtypes = new Map([...checkpoint.names()].map((name) => [name, checkpoint.dtype(name)]));
  const precision = resolvePrecision(asked, dtypes.values(), machine);
  check?.({ precision, shape: model.shape });
  const { plan, hooks } = planWeights(model, { precision, dtypes, device: machine.device ?? "cpu" });
  const content = await contentHash(cacheRoot, [source.configFile, ...checkpoint.files]);
  const hash = sha256(content + JSON.stringify([[...plan.sources], [...plan.places]])).slice(0, 24);
  const item = { key: `${hash}-${precision}-v${WEIGHTS_VERSION}`, model: source.path, precision };
  const entry = await publish(cacheRoot, item, (to) =>
    writeWeights(join(to, WEIGHTS_FILE), plan, checkpoint, onProgress ?? (() => {})),
  );
  const keep = <Interface>(name: string, graph: Pick<BuiltGraph<Interface>, "interface" | "bytes">) =>
    store(resolve(cacheRoot), entry, name, graph);
  const options = {
    precision,
    device: machine.device ?? "cpu",
    dtypes,
    weightsFile: WEIGHTS_FILE,
    taps: new Set<HookName>(),
    edits: new Set<HookName>(),
  };
  return {
    modelType: model.modelType,
    content,
    shape: model.shape,
    hooks,
    precision,
    activations: activationsOf(precision),
    generation,
    notices: noticesOf(asConfigured, stored, plan, generation),
    weights: { path: join(entry, WEIGHTS_FILE), bytes: plan.bytes, places: plan.places },
    decode: (asked) => keep(`decode-g${asked.sinks}`, buildDecode(model, plan, { ...options, ...asked })),
    prefill: (asked) =>
      keep(`prefill${asked.far ? "-far" : ""}-g${asked.sinks}`, buildPrefill(model, plan, { ...options, ...asked })),
    reading: (taps) => keep("activations", buildActivations(model, plan, { ...options, taps })),
    lens: () => keep("lens", buildLens(model, plan, { ...options, sinks: 0 })),
    measured: {
      read: (name) => readIfThere(join(entry, name)),
      write: (name, bytes) => putIntoEntry(resolve(cacheRoot), entry, name, bytes),
    },
  };
}

function noticesOf(
  configured: DescribedModel,
  { model, checkpoint }: StoredModel,
  plan: WeightPlan,
  { notices = [] }: GenerationConfig,
): string[] {
  const { embedding, head } = model.names;
  const untied = `tie_word_embeddings is true, but ${embedding} and ${head} are stored with different values: both are used`;
  const unread = unreadSentence(checkpoint, model.names, plan);
  return [...(model === configured ? [] : [untied]), ...(unread === null ? [] : [unread]), ...notices];
}

/** @throws ModelFormatError where every text would have a token in or behind it that the model does not know. */
function checkFrame({ frame }: GenerationConfig, { vocabSize }: ModelShape, path: string): void {
  const strange = [...(frame?.before ?? []), ...(frame?.after ?? [])].find((id) => id >= vocabSize);
  if (strange === undefined) return;
  const reason = `its tokenizer puts token ${strange} around every text, but the model knows only ids below ${vocabSize}`;
  throw new ModelFormatError(path, reason);
}

/** Writes a graph beside its weights, under a name that holds its hash, so that an older one is never taken for it. */
function store<Interface>(
  root: string,
  entry: string,
  name: string,
  graph: Pick<BuiltGraph<Interface>, "interface" | "bytes">,
): CompiledGraph<Interface> {
  const file = `${name}-${sha256(graph.bytes).slice(0, 12)}.onnx`;
  const path = join(entry, file);
  if (statSync(path, { throwIfNoEntry: false })?.size === graph.bytes.length)
    return { path, interface: graph.interface };
  putIntoEntry(root, entry, file, graph.bytes);
  return { path, interface: graph.interface };
}

function readIfThere(path: string): Uint8Array | null {
  try {
    return readFileSync(path);
  } catch {
    return null;
  }
}

const sha256 = (data: string | Uint8Array): string => createHash("sha256").update(data).digest("hex");
