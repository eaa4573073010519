import { z } from "zod";
import { turnsSinks } from "../../models/attention/attention.js";
import { isQuantised, type KvType, kvElement, kvWidth } from "../../models/keys-values/kv-format.js";
import type { ModelShape } from "../../models/model-shape.js";
import { SnapshotError } from "../contract/errors.js";
import { elementWidth } from "../ort/elements.js";
import type { Tensor } from "../ort/tensor.js";
import type { LambdaCache } from "./lambda-cache.js";
import { checkIdentity, ModelIdentity } from "./model-identity.js";
import { Ring } from "./ring.js";
import { headerPart, packSnapshot, unpackSnapshot } from "./snapshot.js";

const count = z.int().min(0);

/** What a row is, beside its keys and values. */
const RowHeader = z.object({
  window: z.union([count.min(1), z.literal(Number.POSITIVE_INFINITY)]),
  sinks: count,
  /** Tokens that it has seen. */
  count,
});
type RowHeader = z.infer<typeof RowHeader>;

/** `more`: what is stored with the row by whoever knows more than slots and bytes. */
const Header = z.object({ model: ModelIdentity, row: RowHeader, more: z.unknown() });

/** A row that has been read, and not yet restored. */
export interface StoredRow extends RowHeader {
  /** Its keys and values, in the order of `partsOf`. */
  readonly payload: Uint8Array;
  readonly more: unknown;
}

/** What a row holds, apart from its cache, for the same process to restore. */
export function storeRow(cache: LambdaCache, row: number): StoredRow {
  const header = headerOf(cache, row);
  const payload = new Uint8Array(bytesOf(cache.shape, header, cache.kv));
  fill(payload, cache, row, header);
  return { ...header, payload, more: null };
}

/**
 * A row as bytes: of each layer the keys and values in the slots in use, and the unrotated keys of the starting tokens. Once
 * its window is full, they are as many however long the text is.
 * @param more plain data that is stored with it
 * @throws SnapshotError where it would be larger than an array can be.
 */
export function saveRow(
  cache: LambdaCache,
  row: number,
  model: ModelIdentity,
  more: object | null = null,
): Uint8Array<ArrayBuffer> {
  const header = headerOf(cache, row);
  return packSnapshot({ model, row: header, more }, bytesOf(cache.shape, header, model.elements), (payload) =>
    fill(payload, cache, row, header),
  );
}

const headerOf = (cache: LambdaCache, row: number): RowHeader => ({
  window: cache.windowOf(row),
  sinks: cache.sinks,
  count: cache.count(row),
});

function fill(payload: Uint8Array, cache: LambdaCache, row: number, header: RowHeader): void {
  // The cache that it is restored into knows neither where its newest token stands nor that a run has scribbled.
  cache.wipe(row);
  copy(cache, row, header, (tensor, offset, at, bytes) => tensor.readBytes(payload.subarray(at, at + bytes), offset));
}

/**
 * Reads what `saveRow` gave.
 * @param model of the server that reads; @param shape likewise
 * @throws SnapshotError where that is not what these bytes are, or not of this model.
 */
export function readRow(bytes: Uint8Array, model: ModelIdentity, shape: ModelShape): StoredRow {
  const { header, payload } = unpackSnapshot(bytes);
  const { model: stored, row, more } = headerPart(Header, header);
  checkIdentity(stored, model);
  const expected = bytesOf(shape, row, model.elements);
  if (payload.length !== expected)
    throw new SnapshotError(
      "damaged",
      `the snapshot has ${payload.length} bytes of keys and values, and a row of ${row.count} tokens has ${expected}`,
    );
  return { ...row, payload, more };
}

/**
 * A new last row that goes on as the stored one would.
 * @throws SnapshotError where the cache has other starting tokens or a smaller window; OrtError where there is no memory. The
 * cache is then as before.
 */
export function restoreRow(cache: LambdaCache, stored: StoredRow): number {
  if (stored.sinks !== cache.sinks)
    throw new SnapshotError(
      "geometry",
      `the snapshot has ${stored.sinks} starting tokens, and the cache ${cache.sinks}`,
    );
  if (stored.window > cache.window)
    throw new SnapshotError(
      "geometry",
      `the snapshot has a window of ${stored.window}, and the cache of ${cache.window}`,
    );
  const row = cache.allocate(stored.window);
  try {
    cache.reserve(row, stored.count);
    copy(cache, row, stored, (tensor, offset, at, bytes) =>
      tensor.writeBytes(stored.payload.subarray(at, at + bytes), offset),
    );
    cache.adopt(row, stored.count);
    return row;
  } catch (error) {
    cache.release(row);
    throw error;
  }
}

/** What a row has in one buffer [rows, heads, slots, width]: of each head the first `tokens` slots. */
interface Part {
  readonly of: "keys" | "values" | "sinkKeys";
  readonly nth: number;
  readonly heads: number;
  readonly tokens: number;
}

/** In the order of their bytes. */
function partsOf({ kvHeads, geometries, layerGeometries }: ModelShape, row: RowHeader, kv: KvType): Part[] {
  const used = geometries.map((geometry) => new Ring(geometry, row, isQuantised(kv)).kept(row.count));
  const layers = layerGeometries.flatMap((geometry, nth): Part[] =>
    (["keys", "values"] as const).map((of) => ({ of, nth, heads: kvHeads, tokens: used[geometry] ?? 0 })),
  );
  const sinks = geometries.flatMap((geometry, nth): Part[] => {
    if (!turnsSinks(geometry, row.sinks)) return [];
    const heads = layerGeometries.filter((each) => each === nth).length * kvHeads;
    return [{ of: "sinkKeys", nth, heads, tokens: Math.min(row.count, row.sinks) }];
  });
  return [...layers, ...sinks];
}

function bytesOf(shape: ModelShape, row: RowHeader, kv: KvType): number {
  const { headDim } = shape;
  const bytes = {
    kept: kvWidth(kv, headDim) * elementWidth(kvElement(kv)),
    sinkKeys: headDim * (isQuantised(kv) ? elementWidth("float32") : elementWidth(kv)),
  };
  return partsOf(shape, row, kv).reduce(
    (sum, { of, heads, tokens }) => sum + heads * tokens * bytes[of === "sinkKeys" ? of : "kept"],
    0,
  );
}

/** Calls `move` for each stretch of a row: where it begins in its tensor, elements, and in the payload, bytes. */
function copy(
  cache: LambdaCache,
  row: number,
  header: RowHeader,
  move: (tensor: Tensor, offset: number, at: number, bytes: number) => void,
): void {
  let at = 0;
  for (const { of, nth, heads, tokens } of partsOf(cache.shape, header, cache.kv)) {
    const tensor = cache[of][nth];
    if (!tensor) throw new RangeError(`the cache has no ${of}[${nth}]`);
    const [, , slots = 0, width = 0] = tensor.shape;
    const bytes = tokens * width * elementWidth(tensor.type);
    for (let head = 0; head < heads; head++, at += bytes) move(tensor, (row * heads + head) * slots * width, at, bytes);
  }
}
