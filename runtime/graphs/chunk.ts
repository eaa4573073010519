import { HIDDEN } from "../../models/attention/attention.js";
import { UNSEEN } from "../../models/graph-interface.js";
import type { LambdaCache } from "../cache/lambda-cache.js";
import type { Ring } from "../cache/ring.js";

/** A chunk of a row's text. */
export interface Chunk {
  /** Index in the text of the chunk's first token, and its length. */
  readonly start: number;
  readonly tokens: number;
  /** Some token stands W or more from a starting token, so that these are scored apart where they are turned. */
  readonly far: boolean;
}

/**
 * What a chunk attends to in layers of one geometry: the row's slots [0, past), the chunk, which may be followed by others
 * that nobody sees, and `apart` starting tokens.
 */
export interface ChunkKeys {
  readonly past: number;
  readonly apart: number;
  readonly keys: number;
}

export function planChunk(cache: LambdaCache, row: number, tokens: number): Chunk {
  const start = cache.count(row);
  return { start, tokens, far: cache.sinks > 0 && start + tokens > cache.windowOf(row) };
}

/**
 * @param scoredApart whether the starting tokens are
 * @param length of the run: the chunk, or the longest that runs with it
 */
export function chunkKeys(ring: Ring, { start }: Chunk, scoredApart: boolean, length: number): ChunkKeys {
  const past = ring.kept(start);
  const apart = scoredApart ? ring.sinks : 0;
  return { past, apart, keys: past + length + apart };
}

/**
 * Which tokens of a chunk see each of its keys, counted from its first: [from, until) each. Token t sees key s iff s <= t and
 * (t - s < W or s is a starting token), each key once; starting tokens that are scored apart are seen by all.
 */
export function seenKeys(
  ring: Ring,
  { start, tokens }: Chunk,
  { past, apart, keys }: ChunkKeys,
): { readonly from: Float32Array; readonly until: Float32Array } {
  const { window, sinks } = ring;
  const from = new Float32Array(keys);
  const until = new Float32Array(keys);
  for (const [slot, token] of ring.tokensInSlots(start, 0, past).entries()) {
    if (token >= start || (slot < sinks && apart > 0)) continue;
    until[slot] = slot < sinks ? tokens : Math.max(0, Math.min(tokens, token + window - start));
  }
  for (let i = 0; i < tokens; i++) {
    from[past + i] = i;
    until[past + i] = Math.min(tokens, i + window);
  }
  until.fill(tokens, keys - apart);
  return { from, until };
}

/** Where the keys of a chunk stand, counted from its first token. */
export function keyPlaces(ring: Ring, { start, tokens }: Chunk, { past, keys }: ChunkKeys): Float32Array {
  const places = new Float32Array(keys);
  for (const [slot, token] of ring.tokensInSlots(start, 0, past).entries()) places[slot] = token - start;
  for (let i = 0; i < tokens; i++) places[past + i] = i;
  return places;
}

/** For ALiBi, [slots]: min(t - s, W) of the token in each slot from token t, which is decoded; UNSEEN in empty slots. */
export function slotDistances(ring: Ring, slots: number, t: number): Float32Array {
  const distances = new Float32Array(slots).fill(UNSEEN);
  for (const [slot, token] of ring.seenBy(t).entries()) distances[slot] = Math.min(t - token, ring.window);
  return distances;
}

/**
 * For starting tokens that are scored apart: the first token of the chunk that stands W or more from each, counted from the
 * chunk's first, and what hides those that are not in the cache yet.
 */
export function sinkSpans(
  { window, sinks }: Ring,
  { start }: Chunk,
): { readonly nearUntil: Float32Array; readonly hidden: Float32Array } {
  const nearUntil = Float32Array.from({ length: sinks }, (_, s) => s + window - start);
  const hidden = Float32Array.from({ length: sinks }, (_, s) => (s < start ? 0 : HIDDEN));
  return { nearUntil, hidden };
}
