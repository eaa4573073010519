/**
 * What the numbers and texts of a request may be. Within these bounds penalties and biases take no logit that a model can
 * have out of the numbers of f32, and what a request needs before it runs stays small.
 */
export const BOUNDS = {
  temperature: { least: 0, most: 100 },
  repetitionPenalty: { least: 0.01, most: 100 },
  /** The presence and the frequency penalty have the same bounds. */
  penalty: { least: -2, most: 2 },
  bias: { least: -100, most: 100 },
} as const;

/** Sequences of a request: its prompts times its choices. */
export const MOST_SEQUENCES = 2048;

/** Stop strings of a request, and UTF-16 units of each. */
export const MOST_STOPS = 16;
export const LONGEST_STOP = 1024;

/** UTF-16 units of a cache salt. */
export const LONGEST_SALT = 1024;
