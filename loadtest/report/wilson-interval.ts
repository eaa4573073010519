/** z of a two-sided 95 % interval. */
const Z = 1.959964;

/**
 * 95 % confidence interval of a share, `hits` of `trials` (Wilson 1927, JASA 22): holds for few trials and at 0 and 1.
 * [0, 1] where there are none.
 */
export function wilsonInterval(hits: number, trials: number): readonly [low: number, high: number] {
  if (trials === 0) return [0, 1];
  const share = hits / trials;
  const z2 = Z ** 2 / trials;
  const centre = (share + z2 / 2) / (1 + z2);
  const half = (Z * Math.sqrt((share * (1 - share)) / trials + z2 / (4 * trials))) / (1 + z2);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}
