import type { LinearPart } from "../forward.js";

/**
 * Rows of a matrix in which each key-value head lies with the query heads that it serves (its queries, its key, its value,
 * then those of the next) in the order queries of all heads, keys of all, values of all.
 */
export function fusedHeads({
  heads,
  kvHeads,
  headDim,
}: {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}): Pick<LinearPart, "out" | "rows"> {
  const queries = heads / kvHeads;
  const group = (queries + 2) * headDim;
  const ofEach = (first: number, count: number) =>
    Array.from({ length: kvHeads }, (_, i) => [i * group + first * headDim, count * headDim] as const);
  return { out: kvHeads * group, rows: [...ofEach(0, queries), ...ofEach(queries, 1), ...ofEach(queries + 1, 1)] };
}
