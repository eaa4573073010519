/** What the authors' code writes over the last of the running lengths, so that there is always an end: sqrt(1e8). */
export const FORCED_LAST = 1e4;

/**
 * The cut of top-AFA: s sorted downwards, c_j the square root of the sum of the first j, c_last = 1e4; k is the first j
 * at which c_j is nearest to `norm`. c grows, so it is followed until it has reached `norm` and no further.
 * arXiv 2503.24277; SewoongLee/top-afa-sae, training/sae.py, TopAFASAE.
 * @param width dSae, the number of all s
 * @param begun the number and the sum of largest s after which c has not reached `norm` yet
 * @param next gives the following s above 0, downwards
 * @returns k, or null where c_last is nearest, so that all are kept
 */
export function topAfaPlaces(
  width: number,
  norm: number,
  begun: { readonly places: number; readonly sum: number },
  next: () => number | undefined,
): number | null {
  let { places, sum } = begun;
  let [k, distance] = [Math.max(1, places), Math.abs(Math.sqrt(sum) - norm)];
  while (places < width - 1) {
    const share = next();
    if (share === undefined) break;
    places++;
    sum += share;
    const here = Math.abs(Math.sqrt(sum) - norm);
    if (places === 1 || here < distance) [k, distance] = [places, here];
    if (Math.sqrt(sum) >= norm) break;
  }
  const noneButLast = width === 1;
  return noneButLast || Math.abs(FORCED_LAST - norm) < distance ? null : k;
}
