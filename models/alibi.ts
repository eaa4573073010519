/**
 * ALiBi's slope of each head (Press et al. 2021, arXiv 2108.12409, section 3, and their code for head counts that are no
 * power of two): 2^(-biasMax i / n) for i = 1..n; for other counts those of the next lower power of two, then every second
 * one of the next higher.
 * @param biasMax the last slope of n = 2^k heads is 2^-biasMax; MPT-StoryWriter has 16, all others 8
 */
export function alibiSlopes(heads: number, biasMax = 8): number[] {
  const powers = (n: number) => Array.from({ length: n }, (_, i) => 2 ** ((-biasMax * (i + 1)) / n));
  const lower = 2 ** Math.floor(Math.log2(heads));
  const between = powers(2 * lower).filter((_, i) => i % 2 === 0);
  return [...powers(lower), ...between.slice(0, heads - lower)];
}
