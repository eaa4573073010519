/**
 * What to say of an SAE that reconstructs its place worse than the mean vector would; null: it does not. The usual causes
 * are settings that were lost between training and loading.
 * @param unexplained sum of |x - x'|^2 by sum of |x - mean|^2
 */
export function unexplainedWarning(
  sae: string,
  unexplained: number,
  {
    hook,
    normalisation,
    activation,
  }: { readonly hook: string; readonly normalisation: string; readonly activation: string },
): string | null {
  if (unexplained <= 1) return null;
  return (
    `${sae} leaves ${Number.isNaN(unexplained) ? "NaN" : unexplained.toFixed(2)} of the variance at ${hook} unexplained, and the mean alone would leave 1: ` +
    `look at its normalisation (${normalisation}), its hook and its activation (${activation})`
  );
}
