/** How a token's context is given to the model. */
export const MODES = ["lambda", "full", "truncation"] as const;
export type Mode = (typeof MODES)[number];

/**
 * What is measured. Passes read the sequence once; of the others each token is a prompt of its own, so that they are sampled:
 * `re-encoded` is the last W tokens alone, `truncation` the first G and the last W - G.
 */
export const PASSES = ["lambda", "full"] as const;
export type Pass = (typeof PASSES)[number];
export const FRESH = ["re-encoded", "truncation"] as const;
export type Fresh = (typeof FRESH)[number];
export type Part = Pass | Fresh;

/** W and G. */
export interface Window {
  readonly window: number;
  readonly sinks: number;
}

/**
 * The prompt that predicts the token at a position: the W tokens before it, or the first G and the W - G before it; all
 * before it where there are no more. Positions begin at 0 again, as in every prompt.
 */
export function freshPrompt(
  part: Fresh,
  ids: readonly number[],
  position: number,
  { window, sinks }: Window,
): readonly number[] {
  const kept = part === "re-encoded" ? 0 : Math.min(sinks, window);
  if (position <= window) return ids.slice(0, position);
  return [...ids.slice(0, kept), ...ids.slice(position - (window - kept), position)];
}
