import type { SaeCard } from "../contract/features.js";

/**
 * What to say of an SAE that reconstructs its place worse than the mean vector does; null: it does not. It is mostly a
 * setting that was lost between training and loading.
 * @param unexplained sum of |x - x'|^2 by sum of |x - mean|^2
 */
export function unexplainedWarning(
  { id, hook, normalisation, activation }: Pick<SaeCard, "id" | "hook" | "normalisation" | "activation">,
  unexplained: number,
): string | null {
  if (unexplained <= 1) return null;
  return (
    `The SAE ${id} leaves ${unexplained.toFixed(2)} of the variance at ${hook} unexplained, where the mean alone leaves 1: ` +
    `is its normalisation (${normalisation}), its hook or its activation (${activation}) another than it was trained with?`
  );
}
