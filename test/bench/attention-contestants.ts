import type { LambdaCache } from "../../runtime/cache/lambda-cache.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import type { Tensor } from "../../runtime/ort/tensor.js";
import { randomWeights } from "../models/random-model.js";
import type { FullRunner } from "./full-runner.js";

/** A text in the cache of one kind of attention. */
export interface Text extends Disposable {
  /** Of its cache. */
  readonly bytes: number;
  prefill(ids: readonly number[]): void;
  /** A token at the end of the text, in each of the ways that there are. */
  readonly decode: readonly ((token: number) => void)[];
  /** Goes on as if so many more tokens had been run: the cache holds finite noise instead of them. */
  skip(tokens: number): void;
}

/** One kind of attention, and the chunks that its prompts are run in. */
export interface Contestant {
  readonly name: string;
  readonly chunk: number;
  /** A text that will have `length` tokens; `noise`: its cache is filled with it, so that tokens can be skipped. */
  open(length: number, noise: boolean): Text;
}

const SINKS = 10;

export const lambdaContestant = (runner: Runner, window: number, chunk: number): Contestant => ({
  name: `W = ${window}`,
  chunk: Math.min(chunk, window),
  open(length, noise) {
    const cache = runner.openCache({ window, sinks: SINKS });
    const row = cache.allocate();
    if (noise) fillCache(cache, row, length);
    return {
      get bytes() {
        return cache.bytes;
      },
      prefill: (ids) => void runner.prefill(cache, row, ids),
      decode: [(token) => void runner.decode(cache, row, [token])],
      skip(tokens) {
        for (let i = 0; i < tokens; i++) cache.advance(row);
      },
      [Symbol.dispose]: () => runner.closeCache(cache),
    };
  },
});

export const fullContestant = (runner: FullRunner, chunk: number): Contestant => ({
  name: "full",
  chunk,
  open(length, noise) {
    const cache = runner.openCache(length);
    if (noise) for (const tensor of [...cache.keys, ...cache.values]) fill(tensor);
    return {
      bytes: cache.bytes,
      prefill: (ids) => void runner.prefill(cache, ids),
      decode: (["gqa", "products"] as const).map((kind) => (token) => {
        cache.count = length - 1;
        runner.decode(cache, token, kind);
      }),
      skip(tokens) {
        cache.count += tokens;
      },
      [Symbol.dispose]: () => cache[Symbol.dispose](),
    };
  },
});

function fillCache(cache: LambdaCache, row: number, length: number): void {
  cache.reserve(row, length);
  for (const tensor of [...cache.keys, ...cache.values, ...cache.sinkKeys]) if (tensor !== null) fill(tensor);
}

const NOISE = randomWeights(1 << 18, 3);

function fill(tensor: Tensor): void {
  for (let at = 0; at < tensor.size; at += NOISE.length)
    tensor.write(NOISE.subarray(0, Math.min(NOISE.length, tensor.size - at)), at);
}
