/** Default W = min(training length, this). */
export const LARGEST_DEFAULT_WINDOW = 4096;
/** Default G. */
export const DEFAULT_SINKS = 10;
