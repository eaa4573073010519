import type { LambdaCache, LambdaGeometry } from "../../../runtime/cache/lambda-cache.js";
import type { Runner } from "../../../runtime/graphs/runner.js";

/** A text as it is given to a model: the length of each run; 1 is a decode step, more is a chunk. */
export interface ScheduledText {
  readonly window: number;
  readonly ids: readonly number[];
  readonly runs: readonly number[];
}

export const IDS = Array.from({ length: 400 }, (_, i) => 3 + ((i * i * 31 + i * 17 + (i >> 3)) % 60));
export const steps = (count: number): number[] => Array.from({ length: count }, () => 1);

/** Texts of all windows and lengths. */
export const TEXTS: readonly ScheduledText[] = [
  { window: 24, ids: IDS, runs: [24, 24, 12, ...steps(8), 5, ...steps(8)] },
  // Its prompt is shorter than the starting tokens, and its ring goes round many times.
  { window: 7, ids: IDS.slice(40), runs: [3, ...steps(30), 7, 7, ...steps(9)] },
  // Its second chunk goes beyond the window before all starting tokens are there.
  { window: 8, ids: IDS.slice(20), runs: [2, 7, ...steps(20), 8, ...steps(4)] },
  { window: 300, ids: IDS.slice(7), runs: [100, 100, 70, ...steps(12)] },
  { window: 40, ids: IDS.slice(9), runs: steps(50) },
];

/** The logits behind each run of a text, alone in a cache of its own. */
export function alone(runner: Runner, sinks: number, { window, ids, runs }: ScheduledText): Float32Array[] {
  const cache = runner.openCache({ window, sinks });
  try {
    const row = cache.allocate();
    let at = 0;
    return runs.map((length) => {
      const part = ids.slice(at, at + length);
      at += length;
      return (length === 1 ? runner.decode(cache, row, part) : prefill(runner, cache, row, part)).slice();
    });
  } finally {
    runner.closeCache(cache);
  }
}

/**
 * The same of texts that share a cache, in an order that `seed` gives: chunks run between decode steps, first ones also in
 * one run, and in a step some of the rows that could decode do not. `interfere` is called before each run.
 */
export function together(
  runner: Runner,
  sinks: number,
  texts: readonly ScheduledText[],
  seed: number,
  interfere: (cache: LambdaCache) => void = () => {},
): Float32Array[][] {
  const random = randomOf(seed);
  const cache = runner.openCache({ window: Math.max(...texts.map(({ window }) => window)), sinks });
  try {
    const rows = texts.map(({ window, ids, runs }) => {
      cache.allocate(window);
      return { ids, left: [...runs], at: 0, logits: [] as Float32Array[] };
    });
    const next = (row: (typeof rows)[number], length: number): number[] => {
      row.left.shift();
      row.at += length;
      return row.ids.slice(row.at - length, row.at);
    };
    while (rows.some(({ left }) => left.length > 0)) {
      interfere(cache);
      const chunked = rows.findIndex(({ left }) => (left[0] ?? 1) > 1 && random() < 0.3);
      const row = rows[chunked];
      const begin = rows.filter(({ at, left }) => at === 0 && (left[0] ?? 1) > 1);
      if (row?.at === 0 && random() < 0.7) {
        const chunks = begin.map((each) => {
          const ids = next(each, each.left[0] ?? 0);
          return { row: rows.indexOf(each), ids, wanted: [ids.length - 1] };
        });
        for (const [i, logits] of runner.prefillTogether(cache, chunks).entries()) begin[i]?.logits.push(logits);
        continue;
      }
      if (row !== undefined) {
        row.logits.push(prefill(runner, cache, chunked, next(row, row.left[0] ?? 0)).slice());
        continue;
      }
      const tokens = rows.map((each) => (each.left[0] === 1 && random() < 0.7 ? (next(each, 1)[0] ?? 0) : null));
      if (tokens.every((token) => token === null)) continue;
      const logits = runner.decode(cache, 0, tokens);
      for (const [i, token] of tokens.entries())
        if (token !== null)
          rows[i]?.logits.push(
            logits.slice((i * logits.length) / rows.length, ((i + 1) * logits.length) / rows.length),
          );
    }
    return rows.map(({ logits }) => logits);
  } finally {
    runner.closeCache(cache);
  }
}

const prefill = (runner: Runner, cache: LambdaCache, row: number, ids: readonly number[]): Float32Array =>
  runner.prefill(cache, row, ids, [ids.length - 1]);

function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * Logits of every token of a text, [tokens, vocab], and the bytes of the cache at the end.
 * @param chunkAt the length of the run that token `n` begins
 */
export function readWhole(
  runner: Runner,
  ids: readonly number[],
  geometry: LambdaGeometry,
  chunkAt: (n: number) => number,
): { readonly logits: number[]; readonly bytes: number } {
  const cache = runner.openCache(geometry);
  const row = cache.allocate();
  const logits: number[] = [];
  for (let n = 0; n < ids.length; ) {
    const tokens = ids.slice(n, n + chunkAt(n));
    const values =
      tokens.length === 1 ? runner.decode(cache, row, tokens) : runner.prefill(cache, row, tokens, [...tokens.keys()]);
    for (const value of values) logits.push(value);
    n += tokens.length;
  }
  const { bytes } = cache;
  runner.closeCache(cache);
  return { logits, bytes };
}
