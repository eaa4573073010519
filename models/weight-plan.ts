import type { WeightPlace } from "./onnx/graph.js";
import { partRows, type WeightPart } from "./weight-part.js";

/** How a matrix multiplication keeps its weights. */
export type Precision = "f32" | "q8";

/** Weights of one 8-bit block, which share a scale (MatMulNBits). */
export const BLOCK = 32;

/** Parts of a checkpoint, stacked along their outputs. */
export interface WeightSource {
  readonly parts: readonly WeightPart[];
  /**
   * plain: as in the checkpoint. transposed: [out, in] stored as [in, out]. q8: [out, in] as unsigned bytes
   * [out, in / 32, 32] around 128, with a scale per block in `scales`.
   */
  readonly store: "plain" | "transposed" | "q8";
  readonly scales?: string;
}

const ALIGNMENT = 64;

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
  plain(name: string, part: WeightPart): WeightPlace {
    return this.#place(name, { parts: [part], store: "plain" }, "float32", part.shape);
  }

  /** Several vectors, one behind the other. */
  stacked(name: string, parts: readonly WeightPart[]): WeightPlace {
    return this.#place(name, { parts, store: "plain" }, "float32", [rows(parts)]);
  }

  transposed(name: string, parts: readonly WeightPart[], columns: number): WeightPlace {
    return this.#place(name, { parts, store: "transposed" }, "float32", [columns, rows(parts)]);
  }

  quantised(
    name: string,
    parts: readonly WeightPart[],
    columns: number,
  ): { readonly data: WeightPlace; readonly scales: WeightPlace } {
    const blocks = Math.ceil(columns / BLOCK);
    const scales = `${name}.scales`;
    return {
      data: this.#place(name, { parts, store: "q8", scales }, "uint8", [rows(parts), blocks, BLOCK]),
      scales: this.#place(scales, undefined, "float32", [rows(parts), blocks]),
    };
  }

  #place(
    name: string,
    source: WeightSource | undefined,
    type: "float32" | "uint8",
    shape: readonly number[],
  ): WeightPlace {
    const known = this.places.get(name);
    if (known !== undefined) return known;
    const bytes = shape.reduce((a, b) => a * b, type === "float32" ? 4 : 1);
    const place = { type, shape, offset: this.#bytes, bytes };
    this.#bytes += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    this.places.set(name, place);
    if (source !== undefined) this.sources.set(name, source);
    return place;
  }
}

const rows = (parts: readonly WeightPart[]): number => parts.reduce((sum, part) => sum + partRows(part), 0);
