import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect } from "vitest";
import type { GenerationEvent } from "../../../runtime/contract/generation.js";
import { LocalEngine } from "../../../runtime/engine/engine.js";
import type { LocalEngineOptions } from "../../../runtime/engine/options.js";
import { goldenFolder } from "../../golden-tensors.js";
import { type Asked, sequenceRequest } from "./requests.js";

export interface SmallEngines {
  /** The compile cache of these engines. */
  readonly cacheDir: string;
  /** The golden model with its window of 32 and 4 starting tokens, if `options` say nothing else. */
  startEngine(options?: Partial<LocalEngineOptions>, onProgress?: (share: number) => void): Promise<LocalEngine>;
  closeEngines(): Promise<void>;
}

/** Engines of the test file that calls this while it is loaded, closed at its end, over a cache folder of its own. */
export function smallEngines(): SmallEngines {
  const engines: LocalEngine[] = [];
  const cacheDir = mkdtempSync(join(tmpdir(), "lambdatap-"));
  const defaults = { model: goldenFolder("lm-infinite"), window: 32, sinks: 4, threads: 1, precision: "f32" } as const;
  const limits = { parallel: 4, queueLimit: 8, stallTimeoutMs: 60_000 };
  const closeEngines = async () => {
    await Promise.all(engines.splice(0).map((engine) => engine.close()));
  };
  afterAll(async () => {
    await closeEngines();
    rmSync(cacheDir, { recursive: true });
  });
  return {
    cacheDir,
    async startEngine(options = {}, onProgress) {
      const engine = await LocalEngine.start({ ...defaults, ...limits, cacheDir, ...options }, onProgress);
      engines.push(engine);
      return engine;
    },
    closeEngines,
  };
}

/** Begins a request that nobody aborts. */
export const begin = (engine: LocalEngine, ...sequences: Asked[]): AsyncIterable<GenerationEvent> =>
  engine.generate(sequences.map(sequenceRequest), new AbortController().signal);

export async function read(events: AsyncIterable<GenerationEvent>): Promise<GenerationEvent[]> {
  const all: GenerationEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

/** All events of a request. */
export const run = (engine: LocalEngine, ...sequences: Asked[]): Promise<GenerationEvent[]> =>
  read(begin(engine, ...sequences));

/** Log-probability of each of `tokens` but the first, from logits [tokens, vocab] of the tokens before. */
export function expectedLogprobs(logits: Float32Array, tokens: readonly number[], vocab = 256): number[] {
  return tokens.slice(1).map((token, i) => {
    const row = logits.subarray(i * vocab, (i + 1) * vocab);
    const largest = Math.max(...row);
    return (row[token] ?? 0) - largest - Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
  });
}

export function expectClose(got: readonly number[], want: readonly number[]): void {
  expect(got).toHaveLength(want.length);
  expect(Math.max(...got.map((value, i) => Math.abs(value - (want[i] ?? Number.NaN))))).toBeLessThan(1e-3);
}
