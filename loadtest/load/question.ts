/** What a connection asks for, again and again. */
export interface Question {
  /** @param turn differs from request to request. */
  readonly prompt: (turn: number) => string;
  readonly maxTokens: number;
  /** Whether the answer is to have exactly that many tokens; only for servers that know `ignore_eos`. */
  readonly ignoreEos: boolean;
  /** Requests of a connection in a second, at most. */
  readonly perSecond?: number;
}
