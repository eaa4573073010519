import type { ModelShape } from "../model-shape.js";

/**
 * How large a model's keys and values get, for caches that keep them in few bits: per layer, and in it per channel
 * [kvHeads * headDim], the largest magnitude that is kept exactly; what lies beyond saturates. Keys are those that caches
 * hold: rotated where the model rotates them.
 */
export interface KvRanges {
  readonly keys: readonly Float32Array[];
  readonly values: readonly Float32Array[];
}

/** Channels of a layer. */
export const kvChannels = ({ kvHeads, headDim }: Pick<ModelShape, "kvHeads" | "headDim">): number => kvHeads * headDim;

/** Writes ranges as little-endian f32: of each layer the keys', then the values'. */
export function encodeKvRanges({ keys, values }: KvRanges): Uint8Array {
  const layers = keys.flatMap((ofKeys, layer) => [ofKeys, values[layer] ?? new Float32Array()]);
  const bytes = new Uint8Array(layers.reduce((sum, { byteLength }) => sum + byteLength, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const range of layers.flatMap((each) => [...each])) {
    view.setFloat32(at, range, true);
    at += 4;
  }
  return bytes;
}

/** Reads what `encodeKvRanges` gave; null where its size is another or a number is no range, so that it is not of this model. */
export function decodeKvRanges(
  bytes: Uint8Array,
  shape: Pick<ModelShape, "layers" | "kvHeads" | "headDim">,
): KvRanges | null {
  const channels = kvChannels(shape);
  if (bytes.length !== shape.layers * 2 * channels * 4) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const all = Array.from({ length: shape.layers * 2 }, (_, part) =>
    Float32Array.from({ length: channels }, (_, channel) => view.getFloat32((part * channels + channel) * 4, true)),
  );
  if (!all.every((ranges) => ranges.every((range) => range > 0 && Number.isFinite(range)))) return null;
  return { keys: all.filter((_, part) => part % 2 === 0), values: all.filter((_, part) => part % 2 === 1) };
}
