import type { ActivationType, WeightPlace } from "../onnx/graph.js";
import { type BlockFormat, blocksOf, codeBytes } from "./block-format.js";
import { foldedRows } from "./quantise-channels.js";
import { partRows, type WeightPart } from "./weight-part.js";

/** Parts of a checkpoint, stacked along their outputs. */
export interface WeightSource {
  readonly parts: readonly WeightPart[];
  /**
   * plain: as in the checkpoint. transposed: [out, in] stored as [in, out]. blocks: [out, in] in the format beside it.
   * channels: as [in + folded, out] of int8, see `quantiseChannels`.
   */
  readonly store: "plain" | "transposed" | "blocks" | "channels";
  readonly blocks?: {
    readonly format: BlockFormat;
    /** The type of all parts' own blocks, which are held as they are; null: quantised here. */
    readonly held: string | null;
    /** Names of their places. */
    readonly scales: string;
    readonly minima: string | null;
  };
  /** Name of the place of the scales of channels. */
  readonly scales?: string;
}

/** Where a matrix in blocks lies. */
export interface BlockPlaces {
  /** Codes [out, blocks, bytes]. */
  readonly codes: WeightPlace;
  /** [out, blocks] */
  readonly scales: WeightPlace;
  /** [blocks, out]; null in formats without. */
  readonly minima: WeightPlace | null;
}

/** Where a matrix of int8 lies. */
export interface ChannelPlaces {
  /** [in + folded, out] */
  readonly codes: WeightPlace;
  /** [out] */
  readonly scales: WeightPlace;
}

const ALIGNMENT = 64;
/** Bytes of an element. */
const WIDTH = { float32: 4, float16: 2, bfloat16: 2, uint8: 1, int8: 1 } as const;

/**
 * Which tensors the graphs of a model need and where each lies in its weights file. Filled while graphs are built, so
 * decode and prefill share one file, and read by the compile step, which writes it.
 */
export class WeightPlan {
  readonly sources = new Map<string, WeightSource>();
  readonly places = new Map<string, WeightPlace>();
  #bytes = 0;

  /** Size of the weights file. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A whole tensor as it is. */
  plain(name: string, part: WeightPart, type: ActivationType): WeightPlace {
    return this.#place(name, { parts: [part], store: "plain" }, type, part.shape);
  }

  /** Several vectors, one behind the other. */
  stacked(name: string, parts: readonly WeightPart[], type: ActivationType): WeightPlace {
    return this.#place(name, { parts, store: "plain" }, type, [rows(parts)]);
  }

  transposed(name: string, parts: readonly WeightPart[], columns: number, type: ActivationType): WeightPlace {
    return this.#place(name, { parts, store: "transposed" }, type, [columns, rows(parts)]);
  }

  /** @param held the type of all parts' own blocks, where these are held; null: they are quantised */
  blocks(
    name: string,
    parts: readonly WeightPart[],
    columns: number,
    format: BlockFormat,
    held: string | null,
  ): BlockPlaces {
    const blocks = blocksOf(columns, format);
    const scales = `${name}.scales`;
    const minima = format.minima ? `${name}.minima` : null;
    const out = rows(parts);
    const source: WeightSource = { parts, store: "blocks", blocks: { format, held, scales, minima } };
    return {
      codes: this.#place(name, source, "uint8", [out, blocks, codeBytes(format)]),
      scales: this.#place(scales, undefined, "float32", [out, blocks]),
      minima: minima === null ? null : this.#place(minima, undefined, "float32", [blocks, out]),
    };
  }

  channels(name: string, parts: readonly WeightPart[], columns: number): ChannelPlaces {
    const scales = `${name}.scales`;
    const out = rows(parts);
    return {
      codes: this.#place(name, { parts, store: "channels", scales }, "int8", [columns + foldedRows(columns), out]),
      scales: this.#place(scales, undefined, "float32", [out]),
    };
  }

  /** The bytes of a place under another name and shape. */
  again(name: string, place: WeightPlace, shape: readonly number[]): WeightPlace {
    const again = { ...place, shape };
    this.places.set(name, again);
    return again;
  }

  #place(
    name: string,
    source: WeightSource | undefined,
    type: ActivationType | "uint8" | "int8",
    shape: readonly number[],
  ): WeightPlace {
    const known = this.places.get(name);
    if (known !== undefined) return known;
    const bytes = shape.reduce((a, b) => a * b, WIDTH[type]);
    const place = { type, shape, offset: this.#bytes, bytes };
    this.#bytes += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    this.places.set(name, place);
    if (source !== undefined) this.sources.set(name, source);
    return place;
  }
}

const rows = (parts: readonly WeightPart[]): number => parts.reduce((sum, part) => sum + partRows(part), 0);
