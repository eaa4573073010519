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
  return partsOf(cache, 0, block).reduce((sum, part) => sum + bytesOf(part), 0);
}

/** Copies what a row has of a span of a block's tokens; all of them must be in the row's windows. */
export function readBlock(cache: LambdaCache, row: number, { payload, ...block }: PrefixBlock, span: Span): void {
  copy(
    partsOf(cache, row, block),
    () => [span],
    (tensor, offset, at, bytes) => tensor.readBytes(payload.subarray(at, at + bytes), offset),
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
    for (const { payload, ...block } of blocks)
      copy(
        partsOf(cache, row, block),
        (ring) => keptTokens(ring, count),
        (tensor, offset, at, bytes) => tensor.writeBytes(payload.subarray(at, at + bytes), offset),
      );
    cache.adopt(row, count);
    return row;
  } catch (error) {
    cache.release(row);
    throw error;
  }
}

/** What a ring holds of a text of `count` tokens. */
function keptTokens({ sinks, window }: Pick<Ring, "sinks" | "window">, count: number): Span[] {
  const starting = Math.min(sinks, count);
  return [
    { from: 0, until: starting },
    { from: Math.max(starting, count - window), until: count },
  ];
}

/** What a block has of one buffer [rows, heads, slots, headDim], as [heads, tokens of `span`, headDim]. */
interface Part {
  readonly tensor: Tensor;
  readonly row: number;
  readonly heads: number;
  readonly span: Span;
  /** Where the tokens stand in the buffer; null: at their places in the text. */
  readonly ring: Ring | null;
}

/** In the order of their bytes. */
function partsOf(cache: LambdaCache, row: number, block: Span): Part[] {
  const { kvHeads, layerGeometries } = cache.shape;
  const layers = layerGeometries.flatMap((geometry, layer) =>
    [cache.keys[layer], cache.values[layer]].flatMap((tensor): Part[] =>
      tensor === undefined ? [] : [{ tensor, row, heads: kvHeads, span: block, ring: cache.ring(row, geometry) }],
    ),
  );
  const starting = intersection(block, { from: 0, until: cache.sinks });
  const sinks = cache.sinkKeys.flatMap((tensor): Part[] =>
    tensor === null || starting === null
      ? []
      : [{ tensor, row, heads: tensor.shape[1] ?? 0, span: starting, ring: null }],
  );
  return [...layers, ...sinks];
}

const tokenBytes = (tensor: Tensor): number => (tensor.shape[3] ?? 0) * elementWidth(tensor.type);
const bytesOf = ({ tensor, heads, span }: Part): number => heads * (span.until - span.from) * tokenBytes(tensor);

/**
 * Calls `move` for each stretch of tokens that lie behind each other: where it begins in its tensor, elements, and in the
 * payload, bytes.
 * @param wanted which tokens are copied of what a ring may have
 */
function copy(
  parts: readonly Part[],
  wanted: (ring: Pick<Ring, "sinks" | "window">) => readonly Span[],
  move: (tensor: Tensor, offset: number, at: number, bytes: number) => void,
): void {
  let partAt = 0;
  for (const part of parts) {
    const { tensor, row, heads, span, ring } = part;
    const [, , slots = 0, headDim = 0] = tensor.shape;
    const bytes = tokenBytes(tensor);
    const every = { sinks: span.until, window: 0 };
    for (const each of wanted(ring ?? every)) {
      const own = intersection(each, span);
      if (own === null) continue;
      for (const { from, until, slot } of ring === null ? [{ ...own, slot: own.from }] : stretches(ring, own))
        for (let head = 0; head < heads; head++) {
          const at = partAt + (head * (span.until - span.from) + from - span.from) * bytes;
          move(tensor, ((row * heads + head) * slots + slot) * headDim, at, (until - from) * bytes);
        }
    }
    partAt += bytesOf(part);
  }
}

/** A span in the pieces that stand in slots behind each other. */
function stretches(ring: Ring, { from, until }: Span): (Span & { readonly slot: number })[] {
  const found: (Span & { readonly slot: number })[] = [];
  for (let token = from; token < until; ) {
    const slot = ring.slotOf(token);
    const end = Math.min(until, token + ring.together(token));
    found.push({ from: token, until: end, slot });
    token = end;
  }
  return found;
}

function intersection(one: Span, other: Span): Span | null {
  const [from, until] = [Math.max(one.from, other.from), Math.min(one.until, other.until)];
  return from < until ? { from, until } : null;
}
