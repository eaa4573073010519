import type { CompletionBody } from "../target/completion.js";

/** How a prompt is attended to. */
export const MODES = ["lambda", "retrieve", "full", "truncation", "served"] as const;
export type Mode = (typeof MODES)[number];

/** Modes of a lambdatap server; any other has its own attention only. */
export const LAMBDATAP_MODES: readonly Mode[] = ["lambda", "retrieve", "full", "truncation"];

export const MODE_TITLES: Record<Mode, string> = {
  lambda: "lambda",
  retrieve: "lambda + retrieve",
  full: "full",
  truncation: "truncation",
  served: "as served",
};

/** What the modes stand for, for people who read the figures. */
export const MODE_MEANINGS: Record<Mode, string> = {
  lambda: "the first G and the last W tokens, distances no larger than W",
  retrieve:
    "the same, and while the answer is written, in upper layers, the k keys that each head scores highest out of all that have left the window",
  full: "every token, at its own distance",
  truncation:
    "lambda, on a prompt cut to its first G and last W - G - R tokens and numbered anew; with the R tokens of the answer it has W",
  served: "the server's own attention, whatever it is",
};

/** Fields of `lm_infinite.retrieve`; what is left out is the server's default. */
export interface Retrieval {
  readonly k?: number;
  readonly from_layer?: number;
  readonly distance?: number;
}

/** What modes of a lambdatap server must know of it and of the answer, in tokens. */
export interface ModeSettings {
  readonly window: number;
  /** Whether it is a smaller window than the server's own. */
  readonly asksWindow: boolean;
  readonly sinks: number;
  readonly answer: number;
  readonly retrieval: Retrieval;
}

/** A prompt and the request fields that make a lambdatap server attend to it in this mode. */
export function inMode(
  mode: Exclude<Mode, "served">,
  ids: readonly number[],
  settings: ModeSettings,
): Pick<CompletionBody, "prompt" | "lm_infinite"> {
  const lambda = { mode: "lambda", ...(settings.asksWindow ? { window: settings.window } : {}) };
  switch (mode) {
    case "lambda":
      return { prompt: ids, lm_infinite: lambda };
    case "full":
      return { prompt: ids, lm_infinite: { mode } };
    case "retrieve":
      return { prompt: ids, lm_infinite: { ...lambda, retrieve: settings.retrieval } };
    case "truncation":
      return { prompt: truncate(ids, settings), lm_infinite: lambda };
  }
}

/** Tokens that truncation leaves of a long prompt: with the answer they fill the window. */
const truncatedLength = ({ window, answer }: Pick<ModeSettings, "window" | "answer">): number => window - answer;

/** The first `sinks` ids and the last ones that still fit. @throws RangeError where none do. */
export function truncate(
  ids: readonly number[],
  settings: Pick<ModeSettings, "window" | "sinks" | "answer">,
): readonly number[] {
  const length = truncatedLength(settings);
  const { window, sinks, answer } = settings;
  if (length <= sinks)
    throw new RangeError(
      `a window of ${window} tokens has no room for ${sinks} sinks, an answer of ${answer} and text`,
    );
  return ids.length <= length ? ids : [...ids.slice(0, sinks), ...ids.slice(sinks - length)];
}
