import type { Engine, TokenLogprobs } from "../../runtime/contract/generation.js";

/** Tokens of one choice, in order. Those that are not `inText` are no part of the choice's text; left out: all are. */
export type LogprobsWriter<L> = (
  ids: ArrayLike<number>,
  logprobs: readonly (TokenLogprobs | null)[],
  inText?: (i: number) => boolean,
) => L;

/** How one of OpenAI's interfaces writes the log-probabilities of a choice. */
export interface LogprobsForm<L> {
  none(): L;
  /** Whether a token that ends the text is listed, though it is no part of it. */
  readonly listsEnds: boolean;
  /** Writes a choice's piece by piece. */
  writer(tokenTexts: Engine["tokenTexts"]): LogprobsWriter<L>;
  /** Adds a later piece of the same choice. */
  append(to: L, piece: L): void;
}
