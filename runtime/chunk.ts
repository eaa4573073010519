import type { LambdaCache } from "./lambda-cache.js";

/** What a chunk of a prefill attends to. Its keys are: cached slots, the chunk, and if `far` the starting tokens. */
export interface Chunk {
  /** Index in the text of the chunk's first token, and its length. */
  readonly start: number;
  readonly tokens: number;
  /** Some token stands W or more from a starting token, so that these are scored apart. */
  readonly far: boolean;
  /** Cache slots [0, past) are attended to, as far as the mask lets them. */
  readonly past: number;
  readonly keys: number;
}

const HIDDEN = -3e38;

export function planChunk(cache: LambdaCache, row: number, tokens: number): Chunk {
  const start = cache.count(row);
  const far = cache.sinks > 0 && start + tokens > cache.window;
  const past = far ? cache.slots : Math.min(start, cache.sinks + cache.window);
  return { start, tokens, far, past, keys: past + tokens + (far ? cache.sinks : 0) };
}

/**
 * The lambda mask of a chunk, [tokens, keys], added to the scores: token t sees key s iff s <= t and (t - s < W or s is a
 * starting token), each key once. Columns of starting tokens that are scored apart are left at 0.
 */
export function chunkMask(cache: LambdaCache, row: number, { start, tokens, far, past, keys }: Chunk): Float32Array {
  const { window, sinks } = cache;
  const inSlots = cache.tokensInSlots(row, 0, past);
  const mask = new Float32Array(tokens * keys).fill(HIDDEN);
  for (let i = 0; i < tokens; i++) {
    const oldest = start + i - window;
    const at = i * keys;
    for (let slot = far ? sinks : 0; slot < past; slot++) {
      const token = inSlots[slot] ?? 0;
      if (token > oldest && token < start) mask[at + slot] = 0;
    }
    mask.fill(0, at + past, at + past + i + 1);
    if (far) mask.fill(0, at + past + tokens, at + keys);
  }
  return mask;
}

/** For starting tokens that are scored apart, [tokens, sinks] each: 1 where the token is within W of them, and what hides those not yet in the cache. */
export function sinkMasks(
  { window, sinks }: LambdaCache,
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
