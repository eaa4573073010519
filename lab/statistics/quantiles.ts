/**
 * Quantile of numbers in rising order, with linear interpolation at (n - 1) q (Hyndman and Fan 1996, definition 7; numpy's
 * default). NaN of no numbers.
 * @param q 0 to 1
 */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  const place = (sorted.length - 1) * q;
  const below = Math.floor(place);
  const low = sorted[below] ?? Number.NaN;
  const high = sorted[Math.ceil(place)] ?? Number.NaN;
  return low + (high - low) * (place - below);
}
