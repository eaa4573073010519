import type { LambdaCache, LambdaGeometry } from "../../runtime/cache/lambda-cache.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import type { Tensor } from "../../runtime/ort/tensor.js";
import { type BitDifference, bitDifference, NOTHING_COMPARED, together } from "./bits.js";

/** A text: the chunks of its prompt, and the tokens that are decoded after it, whatever the logits say. */
export interface Text {
  readonly chunks: readonly (readonly number[])[];
  readonly answer: readonly number[];
  /** Left out: the cache's own. */
  readonly window?: number;
}

/** A difference, and the first place where it shows; null: there is none. */
export interface Finding extends BitDifference {
  readonly first: string | null;
}

/** Ids that differ from text to text. */
export function someIds(vocab: number, seed: number, count: number): number[] {
  let state = (seed + 1) * 0x9e3779b1;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) % vocab;
  });
}

/** Cuts ids into chunks of the given sizes, the last of which is repeated; rather than one token, two are left at the end. */
export function cut(ids: readonly number[], sizes: readonly number[]): number[][] {
  const chunks: number[][] = [];
  for (let start = 0; start < ids.length; ) {
    const wished = sizes[chunks.length] ?? sizes.at(-1) ?? ids.length;
    const size = wished > 2 && ids.length - start - wished === 1 ? wished - 1 : wished;
    chunks.push(ids.slice(start, start + size));
    start += size;
  }
  return chunks;
}

/**
 * Logits of every step of every text, which are neighbouring rows of one cache and decode together.
 * @param tokens the buffers have room for so many, whatever the texts need
 * @param waits whether a row sits out a run; default: none ever does
 */
export function decodeTogether(
  runner: Runner,
  geometry: LambdaGeometry,
  texts: readonly Text[],
  { tokens = 0, waits = () => false }: { tokens?: number; waits?: (row: number, run: number) => boolean } = {},
): Float32Array[][] {
  return withCache(runner, geometry, (cache) => {
    for (const [row, { chunks, window }] of texts.entries()) {
      cache.allocate(window);
      if (tokens > 0) cache.reserve(row, tokens);
      for (const chunk of chunks) runner.prefill(cache, row, chunk);
    }
    const { vocabSize } = runner.model.shape;
    const found: Float32Array[][] = texts.map(() => []);
    for (let run = 0; texts.some(({ answer }, row) => (found[row]?.length ?? 0) < answer.length); run++) {
      const next = texts.map(({ answer }, row) => (waits(row, run) ? null : (answer[found[row]?.length ?? 0] ?? null)));
      if (next.every((token) => token === null)) continue;
      const logits = runner.decode(cache, 0, next);
      for (const [row, token] of next.entries())
        if (token !== null) found[row]?.push(logits.slice(row * vocabSize, (row + 1) * vocabSize));
    }
    return found;
  });
}

/** Compares the logits of texts, row by row and step by step. */
export function compareSteps(a: readonly Float32Array[][], b: readonly Float32Array[][]): Finding {
  return firstOf(
    a.flatMap((steps, row) =>
      steps.map((logits, step) => ({ place: `row ${row}, step ${step}`, a: logits, b: b[row]?.[step] })),
    ),
  );
}

/** What a prompt leaves in a cache, by place, then the logits of the steps after it. */
export type Left = ReadonlyMap<string, Float32Array>;

/**
 * Prefills a text's prompt and decodes its answer. Slots of the starting tokens are left out: decoding turns their keys
 * anew in place.
 * @param how whether a chunk of one token runs as a decode step
 */
export function leftBy(
  runner: Runner,
  geometry: LambdaGeometry,
  { chunks, answer }: Text,
  how: "prefilled" | "decoded" = "prefilled",
): Left {
  return withCache(runner, geometry, (cache) => {
    const row = cache.allocate();
    cache.reserve(row, chunks.flat().length + answer.length);
    for (const chunk of chunks)
      if (how === "decoded") for (const id of chunk) runner.decode(cache, row, [id]);
      else runner.prefill(cache, row, chunk);
    const left = new Map<string, Float32Array>();
    for (const [layer, keys] of cache.keys.entries()) {
      left.set(`keys of layer ${layer}`, ringOf(cache, layer, keys));
      left.set(`values of layer ${layer}`, ringOf(cache, layer, cache.values[layer]!));
    }
    for (const [step, id] of answer.entries())
      left.set(`logits of step ${step}`, runner.decode(cache, row, [id]).slice());
    return left;
  });
}

/** Compares what two ways to prefill one text leave. */
export const compareLeft = (a: Left, b: Left): Finding =>
  firstOf([...a].map(([place, values]) => ({ place, a: values, b: b.get(place) })));

function firstOf(
  parts: readonly { readonly place: string; readonly a: Float32Array; readonly b: Float32Array | undefined }[],
): Finding {
  let sum = NOTHING_COMPARED;
  let first: string | null = null;
  for (const { place, a, b = new Float32Array() } of parts) {
    const here = bitDifference(a, b);
    if (here.differing > 0) first ??= place;
    sum = together(sum, here);
  }
  return { ...sum, first };
}

/** A layer's buffer of one row without the slots of the starting tokens. */
function ringOf(cache: LambdaCache, layer: number, buffer: Tensor): Float32Array {
  const { kvHeads, headDim, layerGeometries } = cache.shape;
  const { sinks } = cache.ring(0, layerGeometries[layer] ?? 0);
  const slots = buffer.shape[2] ?? 0;
  const all = buffer.read(new Float32Array(buffer.size));
  const ring = new Float32Array(kvHeads * (slots - sinks) * headDim);
  for (let head = 0; head < kvHeads; head++)
    ring.set(
      all.subarray((head * slots + sinks) * headDim, (head + 1) * slots * headDim),
      head * (slots - sinks) * headDim,
    );
  return ring;
}

function withCache<Result>(runner: Runner, geometry: LambdaGeometry, use: (cache: LambdaCache) => Result): Result {
  const cache = runner.openCache(geometry);
  try {
    return use(cache);
  } finally {
    runner.closeCache(cache);
  }
}
