import { LOWEST_F16 } from "../models/attention.js";
import { UNSEEN } from "../models/graph-interface.js";
import type { ActivationType } from "../models/onnx/graph.js";
import type { LambdaCache } from "./lambda-cache.js";
import type { Ring } from "./ring.js";

/** A chunk of a row's text. */
export interface Chunk {
  /** Index in the text of the chunk's first token, and its length. */
  readonly start: number;
  readonly tokens: number;
  /** Some token stands W or more from a starting token, so that these are scored apart where they are turned. */
  readonly far: boolean;
}

/** What a chunk attends to in layers of one geometry: cached slots [0, past), the chunk, and `apart` starting tokens. */
export interface ChunkKeys {
  readonly past: number;
  readonly apart: number;
  readonly keys: number;
}

/** Added to scores of keys that a token does not see. */
export const HIDDEN = -3e38;

/** The same in the type that the scores are added to: finite in each. */
export const hiddenIn = (type: ActivationType): number => (type === "float16" ? LOWEST_F16 : HIDDEN);

export function planChunk(cache: LambdaCache, row: number, tokens: number): Chunk {
  const start = cache.count(row);
  return { start, tokens, far: cache.sinks > 0 && start + tokens > cache.window };
}

/** @param apart whether the starting tokens are scored apart */
export function chunkKeys(ring: Ring, { start, tokens }: Chunk, apart: boolean): ChunkKeys {
  const past = apart ? ring.slots : Math.min(start, ring.full);
  const sinks = apart ? ring.sinks : 0;
  return { past, apart: sinks, keys: past + tokens + sinks };
}

/**
 * The mask of a chunk, [tokens, keys], added to the scores: token t sees key s iff s <= t and (t - s < W or s is a starting
 * token), each key once. Columns of starting tokens that are scored apart are left at 0.
 */
export function chunkMask(
  ring: Ring,
  { start, tokens }: Chunk,
  { past, apart, keys }: ChunkKeys,
  hidden = HIDDEN,
): Float32Array {
  const { window, sinks } = ring;
  const inSlots = ring.tokensInSlots(start, 0, past);
  const mask = new Float32Array(tokens * keys).fill(hidden);
  for (let i = 0; i < tokens; i++) {
    const oldest = start + i - window;
    const at = i * keys;
    for (let slot = 0; slot < past; slot++) {
      const token = inSlots[slot] ?? 0;
      const pinned = slot < sinks;
      if (pinned && apart > 0) continue;
      if ((pinned || token > oldest) && token < start) mask[at + slot] = 0;
    }
    mask.fill(0, at + past + Math.max(0, i + 1 - window), at + past + i + 1);
    mask.fill(0, at + past + tokens, at + keys);
  }
  return mask;
}

/** For ALiBi, [tokens, keys]: min(t - s, W) where token t sees key s, else UNSEEN. */
export function chunkDistances(ring: Ring, chunk: Chunk, keys: ChunkKeys): Float32Array {
  const { start } = chunk;
  const inSlots = ring.tokensInSlots(start, 0, keys.past);
  return chunkMask(ring, chunk, keys).map((hidden, at) => {
    if (hidden !== 0) return UNSEEN;
    const [i, key] = [Math.floor(at / keys.keys), at % keys.keys];
    const token = key < keys.past ? (inSlots[key] ?? 0) : start + key - keys.past;
    return Math.min(start + i - token, ring.window);
  });
}

/** For ALiBi, [slots]: min(t - s, W) of the token in each slot from the newest token t, UNSEEN in empty slots. */
export function slotDistances(ring: Ring, count: number): Float32Array {
  const used = Math.min(count, ring.full);
  const distances = new Float32Array(ring.slots).fill(UNSEEN);
  for (const [slot, token] of ring.tokensInSlots(count, 0, used).entries())
    distances[slot] = Math.min(count - 1 - token, ring.window);
  return distances;
}

/** For starting tokens that are scored apart, [tokens, sinks] each: 1 where the token is within W of them, and what hides those not yet in the cache. */
export function sinkMasks(
  { window, sinks }: Ring,
  { start, tokens }: Chunk,
): { near: Uint8Array; hidden: Float32Array } {
  const near = new Uint8Array(tokens * sinks);
  const hidden = new Float32Array(tokens * sinks);
  for (let i = 0; i < tokens; i++) {
    for (let s = 0; s < sinks; s++) {
      near[i * sinks + s] = start + i - s < window ? 1 : 0;
      hidden[i * sinks + s] = s < start ? 0 : HIDDEN;
    }
  }
  return { near, hidden };
}
