/** A trained SAE as it is compared with others: both numbers are better the smaller they are. */
export interface SparsityPoint {
  /** Mean number of active features. */
  readonly l0: number;
  /** Mean squared error of the reconstruction. */
  readonly mse: number;
}

/**
 * Numbers of the points that no other point beats: none is at most as large in both coordinates and smaller in one. Copies
 * of a point stay together. In the order of l0, then mse, then number.
 */
export function frontier(points: readonly SparsityPoint[]): number[] {
  const order = points
    .map((point, number) => ({ ...point, number }))
    .sort((a, b) => a.l0 - b.l0 || a.mse - b.mse || a.number - b.number);
  const kept: typeof order = [];
  for (const point of order) {
    const last = kept.at(-1);
    const isCopy = last?.l0 === point.l0 && last.mse === point.mse;
    if (last === undefined || isCopy || point.mse < last.mse) kept.push(point);
  }
  return kept.map(({ number }) => number);
}
