import { setTimeout as pause } from "node:timers/promises";
import * as z from "zod";
import { request } from "../target/request.js";
import type { Target } from "../target/target.js";

/** Resident memory of a server's process while it is watched, bytes. */
export interface ServerMemory {
  readonly start: number;
  readonly peak: number;
  readonly end: number;
}

const Health = z.object({ memory: z.object({ rss: z.int().positive() }) });
const EVERY_MS = 500;
const PATIENCE_MS = 5000;

/**
 * Asks GET /health every half second until the signal aborts, and once more; null where it does not say.
 * Never throws: a server that fails is counted elsewhere.
 */
export async function watchMemory(target: Target, signal: AbortSignal): Promise<ServerMemory | null> {
  const start = await residentBytes(target);
  if (start === null) return null;
  let [peak, end] = [start, start];
  for (let last = signal.aborted; ; last = signal.aborted) {
    const bytes = await residentBytes(target);
    if (bytes !== null) [peak, end] = [Math.max(peak, bytes), bytes];
    if (last) return { start, peak, end };
    await pause(EVERY_MS, undefined, { signal }).catch(() => {});
  }
}

async function residentBytes(target: Target): Promise<number | null> {
  const limit = AbortSignal.timeout(PATIENCE_MS);
  try {
    const answer = await request(target, "/health", null, limit);
    const parsed = Health.safeParse(await answer.json());
    return parsed.success ? parsed.data.memory.rss : null;
  } catch {
    return null;
  }
}
