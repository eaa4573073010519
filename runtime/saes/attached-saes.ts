import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { CompiledModel } from "../../models/compile.js";
import type { HookName } from "../../models/hooks.js";
import { compileSae } from "../../models/sae/compile-sae.js";
import { type CuttingSae, hasCut } from "../../models/sae/edit-cut.js";
import type { SaeOutline } from "../../models/sae/stored-sae.js";
import { SetupError } from "../contract/errors.js";
import type { FeatureRequest, SaeCard, SaeReading } from "../contract/features.js";
import { CPU, type Device } from "../ort/device.js";
import type { Tensor } from "../ort/tensor.js";
import type { FeatureReader, RowRequest } from "./feature-reader.js";
import { saeCard } from "./sae-card.js";
import { SaeDeviceReader } from "./sae-device-reader.js";
import { SaeReader } from "./sae-reader.js";
import type { SaeVectors } from "./sae-vectors.js";

/** Which SAEs a model is served with. */
export interface SaeChoice {
  /** Left out: every folder in `saes/` of the model's folder, each called as its folder. Else an SAE without an id is called as its hook. */
  readonly folders: readonly { readonly id?: string | undefined; readonly folder: string }[] | undefined;
  /** Of the encoders. */
  readonly precision: "f32" | "q8";
  /** Attach SAEs that say they were trained on another model. */
  readonly anyModel: boolean;
}

interface Attached {
  readonly card: SaeCard;
  readonly reader: FeatureReader;
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

/** What the hooks of a run hold. */
export type TappedRows = ReadonlyMap<HookName, Float32Array | Tensor>;

/** An SAE whose own cut edits can ask for. */
export interface CutSource extends CuttingSae {
  /** One of its weights, where graphs run. */
  weight(name: string): Tensor;
}

/** Where the vectors of edits come from. */
export interface EditSource extends Pick<SaeVectors, "encoderColumn" | "decoderRow"> {
  readonly hook: HookName;
  readonly description: SaeOutline;
}

/** The SAEs of a model, on the engine's thread: what reads features, and what edits need of them. */
export class AttachedSaes implements Disposable {
  readonly #saes: ReadonlyMap<string, Attached>;

  constructor(saes: readonly Attached[]) {
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
    for (const { id, folder } of choice.folders ?? saesBeside(options.folder)) {
      const { cacheRoot, threads, spin } = options;
      const ignoresMean = options.model.shape.ignoresMean === "always";
      const compiled = await compileSae({ folder, precision: choice.precision, cacheRoot, ignoresMean });
      const card = saeCard(compiled, id, { ...options, anyModel: choice.anyModel });
      const other = ids.get(card.id);
      if (other !== undefined)
        throw new SetupError(`${other} and ${folder} are both called ${card.id}; name one with --sae <name>=<folder>`);
      ids.set(card.id, folder);
      attached.push({ card, reader: new Reader(compiled, { threads, spin, device, replays }) });
    }
    return new AttachedSaes(attached);
  }

  get cards(): readonly SaeCard[] {
    return [...this.#saes.values()].map(({ card }) => card);
  }

  /** sha256 (hex) of each, by id. */
  get contents(): ReadonlyMap<string, string> {
    return new Map([...this.#saes].map(([id, { reader }]) => [id, reader.sae.content]));
  }

  get hooks(): ReadonlySet<HookName> {
    return new Set(this.cards.map(({ hook }) => hook));
  }

  /** Those whose own cuts edits can ask for. */
  get cutting(): readonly CutSource[] {
    return [...this.#saes.values()].flatMap(({ card: { id, hook }, reader: { sae, vectors } }) =>
      hasCut(sae.description.activation)
        ? [{ id, hook, outline: sae.description, weight: (name: string) => vectors.weight(name) }]
        : [],
    );
  }

  /** @throws RangeError where there is no such SAE. */
  vectors(id: string): SaeVectors {
    return this.#get(id).reader.vectors;
  }

  /** What edits of an SAE's features are made of. @throws RangeError where there is no such SAE. */
  editable(id: string): EditSource {
    const { card, reader } = this.#get(id);
    const { sae, vectors } = reader;
    return {
      hook: card.hook,
      description: sae.description,
      encoderColumn: (feature) => vectors.encoderColumn(feature),
      decoderRow: (feature) => vectors.decoderRow(feature),
    };
  }

  /**
   * Readings of every token of a run: [tokens][saes].
   * @param residuals what the hooks of the run hold, [tokens, hiddenSize] each
   * @throws RangeError as `readStep`.
   */
  read(request: FeatureRequest, residuals: TappedRows): SaeReading[][] {
    const [first] = request.saes;
    if (first === undefined) return [];
    const rows = this.#rows(first, residuals);
    const size = rows instanceof Float32Array ? rows.length : rows.size;
    return this.readStep(Array(size / this.#get(first).card.dIn).fill(request), residuals);
  }

  /**
   * Readings of the rows of a run, each as it asks, in the order of its own `saes`: [rows][saes]. Each SAE reads its rows
   * together.
   * @param asked of row after row of the residuals; null: the row is not read
   * @param residuals what the hooks of the run hold, [rows, hiddenSize] each
   * @throws RangeError where there is no such SAE or row, or a hook was not tapped.
   */
  readStep(asked: readonly (FeatureRequest | null)[], residuals: TappedRows): SaeReading[][] {
    const bySae = new Map<string, (RowRequest & { readonly place: number })[]>();
    for (const [row, request] of asked.entries()) {
      if (request === null) continue;
      for (const [place, id] of request.saes.entries()) {
        const requests = bySae.get(id) ?? [];
        bySae.set(id, requests);
        requests.push({ row, place, activation: request.activation, top: request.top });
      }
    }
    // A device begins at once, and goes on to the next SAE without waiting for the host.
    const started = [...bySae].map(([sae, requests]) => ({
      sae,
      requests,
      finish: this.#get(sae).reader.start(this.#rows(sae, residuals), requests),
    }));
    const readings = asked.map((): SaeReading[] => []);
    for (const { sae, requests, finish } of started)
      for (const [i, reading] of finish().entries()) {
        const { row, place } = requests[i]!;
        readings[row]![place] = { sae, ...reading };
      }
    return readings;
  }

  [Symbol.dispose](): void {
    for (const { reader } of this.#saes.values()) reader[Symbol.dispose]();
  }

  #rows(id: string, residuals: TappedRows): Float32Array | Tensor {
    const { hook } = this.#get(id).card;
    const rows = residuals.get(hook);
    if (rows === undefined) throw new RangeError(`${hook} was not tapped`);
    return rows;
  }

  #get(id: string): Attached {
    const sae = this.#saes.get(id);
    if (sae === undefined) throw new RangeError(`there is no SAE ${id}`);
    return sae;
  }
}

/** The SAEs in `saes/` of a model's folder, as the embedded model has them, each called as its folder. */
export function saesBeside(model: string): { readonly id: string; readonly folder: string }[] {
  const saes = join(model, "saes");
  if (!existsSync(saes)) return [];
  const entries = readdirSync(saes, { withFileTypes: true, encoding: "utf8" });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => ({ id: name, folder: join(saes, name) }));
}
