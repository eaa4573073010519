import { elementWidth } from "../ort/elements.js";
import type { Tensor } from "../ort/tensor.js";
import type { LambdaCache } from "./lambda-cache.js";
import type { Ring } from "./ring.js";

/** Tokens [from, until) of a text. */
interface Span {
  readonly from: number;
  readonly until: number;
}

/** A span of a text, and what a cache has of it: of each layer its keys and values, and the unrotated keys of its starting tokens. */
export interface PrefixBlock extends Span {
  readonly payload: Uint8Array;
}

/** Bytes of such a block. */
export function blockBytes(cache: LambdaCache, block: Span): number {
  return partsOf(cache, block).reduce((sum, { tensor, tokens }) => sum + tokens * tokenBytes(tensor), 0);
}

/** Copies what a row has of a span of a block's tokens; all of them must be in the row's windows. */
export function readBlock(cache: LambdaCache, row: number, block: PrefixBlock, span: Span): void {
  copy(
    { cache, row, block },
    () => [span],
    (tensor, offset, at, bytes) => tensor.readBytes(block.payload.subarray(at, at + bytes), offset),
  );
}

/**
 * A new last row with this window, which has seen the first `count` tokens of a text.
 * @param blocks those that hold its starting tokens, and the last tokens that any of its layers keeps
 * @throws OrtError where there is no memory; the cache is then as before.
 */
export function restorePrefix(
  cache: LambdaCache,
  window: number,
  count: number,
  blocks: readonly PrefixBlock[],
): number {
  const row = cache.allocate(window);
  try {
    cache.reserve(row, count);
    for (const block of blocks)
      copy(
        { cache, row, block },
        (ring) => keptTokens(ring, count),
        (tensor, offset, at, bytes) => tensor.writeBytes(block.payload.subarray(at, at + bytes), offset),
      );
    cache.adopt(row, count);
    return row;
  } catch (error) {
    cache.release(row);
    throw error;
  }
}

/** What a ring holds of a text of `count` tokens. */
function keptTokens(ring: Ring, count: number): Span[] {
  const starting = Math.min(ring.sinks, count);
  return [
    { from: 0, until: starting },
    { from: count - (ring.kept(count) - starting), until: count },
  ];
}

/** What a block has of one buffer [rows, heads, slots, width], as [heads, tokens, width]. */
interface Part {
  readonly tensor: Tensor;
  readonly tokens: number;
  /** Whose ring says where they stand in the buffer; null: starting tokens, which stand at their places in the text. */
  readonly geometry: number | null;
}

/** In the order of their bytes. */
function partsOf(cache: LambdaCache, { from, until }: Span): Part[] {
  const parts: Part[] = [];
  const add = (tensor: Tensor | null | undefined, tokens: number, geometry: number | null) => {
    if (tensor && tokens > 0) parts.push({ tensor, tokens, geometry });
  };
  for (const [layer, geometry] of cache.shape.layerGeometries.entries())
    for (const tensor of [cache.keys[layer], cache.values[layer]]) add(tensor, until - from, geometry);
  for (const tensor of cache.sinkKeys) add(tensor, Math.min(until, cache.sinks) - from, null);
  return parts;
}

/** Bytes that one token has in all heads of a row. */
const tokenBytes = ({ shape: [, heads = 0, , width = 0], type }: Tensor): number => heads * width * elementWidth(type);

interface Place {
  readonly cache: LambdaCache;
  readonly row: number;
  readonly block: PrefixBlock;
}

/**
 * Calls `move` for each stretch of tokens that lie behind each other: where it begins in its tensor, elements, and in the
 * payload, bytes.
 * @param wanted which tokens are copied of those that a ring may have
 */
function copy(
  { cache, row, block }: Place,
  wanted: (ring: Ring) => readonly Span[],
  move: (tensor: Tensor, offset: number, at: number, bytes: number) => void,
): void {
  const inRings = cache.shape.geometries.map((_, geometry) => {
    const ring = cache.ring(row, geometry);
    return wanted(ring).flatMap((span) => stretches(ring, intersection(block, span)));
  });
  const starting = { ...intersection(block, { from: 0, until: cache.sinks }), slot: block.from };
  let partAt = 0;
  for (const { tensor, tokens, geometry } of partsOf(cache, block)) {
    const [, heads = 0, slots = 0, width = 0] = tensor.shape;
    const bytes = width * elementWidth(tensor.type);
    for (const { from, until, slot } of geometry === null ? [starting] : (inRings[geometry] ?? []))
      for (let head = 0; head < heads; head++) {
        const at = partAt + (head * tokens + from - block.from) * bytes;
        move(tensor, ((row * heads + head) * slots + slot) * width, at, (until - from) * bytes);
      }
    partAt += heads * tokens * bytes;
  }
}

/** A span in the pieces that stand in slots behind each other. */
function stretches(ring: Ring, { from, until }: Span): (Span & { readonly slot: number })[] {
  const found: (Span & { readonly slot: number })[] = [];
  for (let token = from; token < until; ) {
    const end = Math.min(until, token + ring.together(token));
    found.push({ from: token, until: end, slot: ring.slotOf(token) });
    token = end;
  }
  return found;
}

/** What two spans share; where they share nothing, none of its tokens is before its end. */
const intersection = (one: Span, other: Span): Span => ({
  from: Math.max(one.from, other.from),
  until: Math.min(one.until, other.until),
});
