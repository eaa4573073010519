/** Neighbouring rows of a cache. */
export interface RowRange {
  readonly first: number;
  readonly rows: number;
}

/**
 * The smallest of the blocks [0, 1), [1, 2), ..., [0, 2), [2, 4), ..., [0, 4), ... that has a range in it. A run that is
 * recorded is one of a whole block, so that a few recordings serve whatever rows a batch has.
 * @param capacity rows that there are, a power of two
 */
export function blockAround({ first, rows }: RowRange, capacity: number): RowRange {
  let size = 1;
  while (Math.floor(first / size) !== Math.floor((first + rows - 1) / size)) size *= 2;
  if (size > capacity) throw new RangeError(`rows ${first} to ${first + rows} are not all of ${capacity}`);
  return { first: Math.floor(first / size) * size, rows: size };
}
