import type { LambdaCache } from "./lambda-cache.js";

/** What a chunk of a prefill attends to. Its keys are: (starting tokens, if far) cached slots, the chunk (starting tokens, if far). */
export interface Chunk {
  /** Index in the text of the chunk's first token, and its length. */
  readonly start: number;
  readonly tokens: number;
  /** Some token stands W or more from a starting token, so that these are scored apart. */
  readonly far: boolean;
  /** Cache slots [pastStart, pastEnd) are attended to as they are. */
  readonly pastStart: number;
  readonly pastEnd: number;
  readonly keys: number;
}

const HIDDEN = -3e38;

export function planChunk(cache: LambdaCache, row: number, tokens: number): Chunk {
  const start = cache.count(row);
  const far = cache.sinks > 0 && start + tokens > cache.window;
  const pastStart = far ? cache.sinks : 0;
  const pastEnd = Math.max(pastStart, Math.min(start, cache.sinks + cache.window));
  return { start, tokens, far, pastStart, pastEnd, keys: (far ? 2 * cache.sinks : 0) + pastEnd - pastStart + tokens };
}

/**
 * The lambda mask of a chunk, [tokens, keys], added to the scores: token t sees key s iff s <= t and (t - s < W or s is a
 * starting token), each key once.
 */
export function chunkMask(cache: LambdaCache, row: number, { start, tokens, far, pastStart, pastEnd, keys }: Chunk): Float32Array {
  const { window } = cache;
  const sinks = far ? cache.sinks : 0;
  const knownSinks = Math.min(start, sinks);
  const past = cache.tokensInSlots(row, pastStart, pastEnd);
  const mask = new Float32Array(tokens * keys).fill(HIDDEN);
  for (let i = 0; i < tokens; i++) {
    const t = start + i;
    const at = i * keys;
    for (let s = 0; s < knownSinks; s++) mask[at + (t - s < window ? s : keys - sinks + s)] = 0;
    for (let j = 0; j < past.length; j++) if (t - (past[j] ?? 0) < window) mask[at + sinks + j] = 0;
    const chunk = at + sinks + past.length;
    mask.fill(0, chunk, chunk + i + 1);
  }
  return mask;
}
