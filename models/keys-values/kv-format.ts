import type { ActivationType, ElementType } from "../onnx/graph.js";
import { activationBytes } from "../weights/block-format.js";
import type { KvRanges } from "./kv-ranges.js";

/** What keys and values can be kept in: numbers of the activations' type, or integers of 8 or 4 bits. */
export type KvType = ActivationType | "q8" | "q4";

/**
 * Keys and values as integers: code = round(x / scale), limited to what the bits hold. The scale of a channel is what makes
 * the largest code of its range.
 */
export interface KvFormat {
  readonly bits: 8 | 4;
  readonly ranges: KvRanges;
}

/** The type that a format stands for; null stands for numbers of the activations' type. */
export const kvType = (format: KvFormat | null, activations: ActivationType): KvType =>
  format === null ? activations : format.bits === 8 ? "q8" : "q4";

export const isQuantised = (type: KvType): type is "q8" | "q4" => type === "q8" || type === "q4";

/** The elements of a cache's buffers. Two codes of 4 bits are one element. */
export const kvElement = (type: KvType): ElementType => (type === "q8" ? "int8" : type === "q4" ? "uint8" : type);

/** Elements that a head's key or value takes. */
export const kvWidth = (type: KvType, headDim: number): number => (type === "q4" ? headDim / 2 : headDim);

/** Bytes that a head's key or value takes. */
export const kvBytes = (type: KvType, headDim: number): number =>
  isQuantised(type) ? kvWidth(type, headDim) : headDim * activationBytes(type);

/** The smallest and the largest code. */
export const codeLimits = ({ bits }: KvFormat): readonly [number, number] => (bits === 8 ? [-128, 127] : [-8, 7]);

/** [256]: how many of the codes in each unsigned byte of a cache are the smallest or the largest there is. */
export function codesAtEnds(type: "q8" | "q4"): Uint8Array {
  const isEnd = (code: number): number => (code === 0 || code === 15 ? 1 : 0);
  return Uint8Array.from({ length: 256 }, (_, byte) =>
    type === "q8" ? Number(byte === 127 || byte === 128) : isEnd(byte & 15) + isEnd(byte >> 4),
  );
}

/** What a code of each channel stands for, [kvHeads * headDim]. */
export function kvScales(format: KvFormat, of: keyof KvRanges, layer: number): Float32Array {
  const ranges = format.ranges[of][layer];
  if (ranges === undefined) throw new RangeError(`there are no ranges for ${of} of layer ${layer}`);
  const [, largest] = codeLimits(format);
  return ranges.map((range) => range / largest);
}
