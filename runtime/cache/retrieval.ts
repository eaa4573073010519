import type { LambdaOptions, RetrieveOptions } from "../contract/generation.js";

/** Middle retrieval of a sequence (LM-Infinite, arXiv 2308.16137, section 3.3). */
export interface Retrieval {
  /** Keys that each query head retrieves. */
  readonly k: number;
  /** First layer that retrieves, counted from 0. */
  readonly fromLayer: number;
  /** Distance at which retrieved keys stand, tokens. */
  readonly distance: number;
}

/**
 * Defaults that find what lies far back on models that never saw the passkey task, too: more keys than the authors
 * retrieve (5), at a smaller distance than their half a window.
 */
const K = 20;
const SHARE_OF_WINDOW = 1 / 8;
const SMALLEST_DISTANCE = 16;
/** As the authors have it: 4 layers of their model's 32 do not retrieve. */
const SHARE_WITHOUT = 4 / 32;
/** The paper's sweep ends at 200. */
export const MOST_RETRIEVED = 256;

/** What a request left out. */
export function toRetrieval(
  { k, fromLayer, distance }: RetrieveOptions,
  window: number,
  { layers }: { readonly layers: number },
): Retrieval {
  return {
    k: k ?? Math.min(K, window),
    fromLayer: fromLayer ?? Math.round(layers * SHARE_WITHOUT),
    distance: distance ?? Math.min(window, Math.max(SMALLEST_DISTANCE, Math.floor(window * SHARE_OF_WINDOW))),
  };
}

/** Tokens whose keys a sequence may come to keep: all that it may have. */
export const archivedTokens = (
  { lambda, maxTokens }: { readonly lambda: LambdaOptions; readonly maxTokens: number | null },
  promptLength: number,
): number => (lambda.retrieve === undefined ? 0 : promptLength + (maxTokens ?? 0));

/** The most that the archives of a request may come to keep together: no more than `parallel` of its sequences have one. */
export function archivedAtOnce(
  sequences: readonly (Parameters<typeof archivedTokens>[0] & { readonly prompt: ArrayLike<number> })[],
  parallel: number,
): number {
  const tokens = sequences.map((sequence) => archivedTokens(sequence, sequence.prompt.length));
  const largestFirst = tokens.sort((a, b) => b - a);
  return largestFirst.slice(0, parallel).reduce((sum, each) => sum + each, 0);
}
