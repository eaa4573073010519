import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { CompiledModel } from "../../models/compile.js";
import type { HookName } from "../../models/hooks.js";
import { centringProblem } from "../../models/sae/centring.js";
import { type CompiledSae, compileSae } from "../../models/sae/compile-sae.js";
import { hasCut } from "../../models/sae/edit-cut.js";
import { SetupError } from "../contract/errors.js";
import type { FeatureEdit, FeatureRequest, SaeCard, SaeReading } from "../contract/features.js";
import type { PlacedSae } from "../graphs/graph-resources.js";
import { type ResidualEdits, residualEdits } from "../graphs/residual-edits.js";
import { type Residuals, TapRows } from "../graphs/tap-outputs.js";
import { CPU, type Device } from "../ort/device.js";
import type { Tensor } from "../ort/tensor.js";
import type { RowReading } from "./row-reading.js";
import { SaeDeviceReader } from "./sae-device-reader.js";
import { SaeReader } from "./sae-reader.js";

/** Which SAEs a model is served with. */
export interface SaeChoice {
  /** Left out: every folder in `saes/` of the model's folder. Without an id, an SAE is called as its hook. */
  readonly folders: readonly { readonly id?: string | undefined; readonly folder: string }[] | undefined;
  /** Of the encoders. */
  readonly precision: "f32" | "q8";
  /** Attach SAEs that say they were trained on another model. */
  readonly anyModel: boolean;
}

interface Attached {
  readonly card: SaeCard;
  readonly compiled: CompiledSae;
  readonly reader: SaeReader | SaeDeviceReader;
}

export interface AttachOptions {
  readonly choice: SaeChoice;
  readonly model: CompiledModel;
  /** The model's folder, and what it is called. */
  readonly folder: string;
  readonly names: readonly string[];
  readonly cacheRoot: string;
  readonly threads: number;
  readonly spin: boolean;
  /** Where features are read; default: the CPU. On another device they are selected there, too. */
  readonly device?: Device;
  /** As of `SaeReaderOptions`. */
  readonly replays?: boolean;
}

/** The SAEs of a model, on the engine's thread: what reads features, and what edits need of them. */
export class AttachedSaes implements Disposable {
  readonly #saes: ReadonlyMap<string, Attached>;

  constructor(
    saes: readonly Attached[],
    readonly device: Device = CPU,
  ) {
    this.#saes = new Map(saes.map((sae) => [sae.card.id, sae]));
  }

  /**
   * Opens, checks and compiles SAEs.
   * @throws ModelFormatError where a file is not understood; SetupError where an SAE does not fit the model.
   */
  static async attach({ choice, ...options }: AttachOptions): Promise<AttachedSaes> {
    const attached: Attached[] = [];
    const ids = new Map<string, string>();
    const { device = CPU, replays = false } = options;
    const Reader = device.isHost ? SaeReader : SaeDeviceReader;
    for (const { id, folder } of choice.folders ?? besides(options.folder)) {
      const { cacheRoot, threads, spin } = options;
      const ignoresMean = options.model.shape.ignoresMean === "always";
      const compiled = await compileSae({ folder, precision: choice.precision, cacheRoot, ignoresMean });
      const card = cardOf(compiled, id, choice, options);
      const other = ids.get(card.id);
      if (other !== undefined)
        throw new SetupError(`${other} and ${folder} are both called ${card.id}; name one with --sae <name>=<folder>`);
      ids.set(card.id, folder);
      attached.push({ card, compiled, reader: new Reader(compiled, { threads, spin, device, replays }) });
    }
    return new AttachedSaes(attached, device);
  }

  get cards(): readonly SaeCard[] {
    return [...this.#saes.values()].map(({ card }) => card);
  }

  get hooks(): ReadonlySet<HookName> {
    return new Set(this.cards.map(({ hook }) => hook));
  }

  /** Those whose own cuts edits can ask for. */
  get cutting(): readonly PlacedSae[] {
    return [...this.#saes.values()].flatMap(({ card: { id, hook }, compiled: { description }, reader }) =>
      hasCut(description.activation)
        ? [{ id, hook, outline: description, weight: (name: string) => reader.weight(name) }]
        : [],
    );
  }

  /** @throws RangeError where there is no such SAE. */
  reader(id: string): SaeReader | SaeDeviceReader {
    return this.#get(id).reader;
  }

  /** Readings of every token of a run by the asked SAEs, each of which is asked for once: [tokens][saes]. */
  read({ saes, activation, top }: FeatureRequest, residuals: Residuals | TapRows): SaeReading[][] {
    const started = saes.map((id) => {
      const { card, reader } = this.#get(id);
      const rows = residuals.get(card.hook);
      if (rows === undefined) throw new RangeError(`${card.hook} was not tapped`);
      return { id, readings: start(reader, rows, activation, top) };
    });
    const bySae = started.map(({ id, readings }) => readings().map((reading) => ({ sae: id, ...reading })));
    return (bySae[0] ?? []).map((_, token) => bySae.flatMap((readings) => readings[token] ?? []));
  }

  /** Readings of every token of a run, and its result; what was tapped stays where the run has left it. */
  readRun<Result>(
    request: FeatureRequest,
    run: (residuals: Residuals | TapRows) => Result,
  ): { readonly result: Result; readonly readings: SaeReading[][] } {
    if (this.device.isHost) {
      const residuals: Residuals = new Map();
      return { result: run(residuals), readings: this.read(request, residuals) };
    }
    using rows = new TapRows();
    return { result: run(rows), readings: this.read(request, rows) };
  }

  /** A sequence's edits, ready to be bound. */
  edits(edits: readonly FeatureEdit[]): ResidualEdits {
    return residualEdits(edits, (id) => {
      const { card, compiled, reader } = this.#get(id);
      return {
        hook: card.hook,
        description: compiled.description,
        encoderColumn: (feature) => reader.encoderColumn(feature),
        decoderRow: (feature) => reader.decoderRow(feature),
      };
    });
  }

  [Symbol.dispose](): void {
    for (const { reader } of this.#saes.values()) reader[Symbol.dispose]();
  }

  #get(id: string): Attached {
    const sae = this.#saes.get(id);
    if (sae === undefined) throw new RangeError(`there is no SAE ${id}`);
    return sae;
  }
}

/** A device begins at once, and goes on to the next SAE without waiting for the host. */
function start(
  reader: SaeReader | SaeDeviceReader,
  rows: Float32Array | Tensor,
  activation: FeatureRequest["activation"],
  top: number,
): () => RowReading[] {
  if (reader instanceof SaeDeviceReader) return reader.start(rows, activation, top);
  const values = rows instanceof Float32Array ? rows : rows.read(new Float32Array(rows.size));
  return () => reader.read(values, activation, top);
}

/** Folders in `saes/` of a model's folder, as the embedded model has them. */
function besides(model: string): { readonly id?: string; readonly folder: string }[] {
  const saes = join(model, "saes");
  if (!existsSync(saes)) return [];
  const entries = readdirSync(saes, { withFileTypes: true, encoding: "utf8" });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => ({ folder: join(saes, name) }));
}

function cardOf(
  { description: sae, precision }: CompiledSae,
  id: string | undefined,
  choice: SaeChoice,
  { model, names }: Pick<AttachOptions, "model" | "names">,
): SaeCard {
  const { activation, dIn, dSae, hook } = sae;
  const refuse = (reason: string): never => {
    throw new SetupError(`${sae.file} cannot be attached to ${names[0]}: ${reason}`);
  };
  if (!hook.tappable) return refuse(hook.reason);
  if (sae.kind === "transcoder") return refuse("it is a transcoder, which predicts another place than it reads");
  if (!model.hooks.includes(hook.name))
    return refuse(`the model has no ${hook.name} (${model.modelType}, ${model.shape.layers} layers)`);
  if (hook.ownOutput && model.shape.postNorm)
    return refuse(
      `it was trained on what the module itself returns, but a ${model.modelType} normalises that before it is added, and ${hook.name} is what is added`,
    );
  const problem = centringProblem(sae, model);
  if (problem !== null) return refuse(problem);
  if (dIn !== model.shape.hiddenSize)
    return refuse(`it reads ${dIn} numbers, and ${hook.name} has ${model.shape.hiddenSize}`);
  if (!choice.anyModel && sae.modelName !== null && !names.some((name) => sameModel(name, sae.modelName ?? "")))
    return refuse(`it was trained on ${sae.modelName} (--sae-any-model attaches it nevertheless)`);
  return {
    id: id ?? hook.name,
    hook: hook.name,
    format: sae.format,
    activation: activation.kind,
    k: activation.kind === "top-k" ? activation.k : activation.kind === "group-max" ? activation.groups : null,
    normalisation: sae.normalisation,
    dIn,
    dSae,
    precision,
    modelName: sae.modelName,
    metadata: sae.metadata,
  };
}

/** Whether two spellings name one model: "gpt2-small" and "openai-community/gpt2", "google/gemma-2-2b" and "gemma-2-2b". */
function sameModel(a: string, b: string): boolean {
  const [left, right] = [a, b].map((name) => {
    const last = name.split("/").at(-1) ?? "";
    return last
      .toLowerCase()
      .replace(/[^a-z0-9]/g, "")
      .replace(/^gpt2small$/, "gpt2");
  });
  return left === right;
}
