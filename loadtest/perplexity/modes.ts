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
 * The prompt whose last token is predicted from what the window holds before it: the token at `position` behind the W tokens
 * before it, or behind the first G and the last W - G. Ids are renumbered from 0, as every prompt's.
 */
export function freshPrompt(
  part: Fresh,
  ids: readonly number[],
  position: number,
  { window, sinks }: Window,
): readonly number[] {
  if (position <= window) return ids.slice(0, position + 1);
  if (part === "re-encoded") return ids.slice(position - window, position + 1);
  const kept = Math.min(sinks, window);
  return [...ids.slice(0, kept), ...ids.slice(position - (window - kept), position + 1)];
}
