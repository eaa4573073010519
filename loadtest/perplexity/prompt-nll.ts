import { type Choice, complete, streamCompletion } from "../target/completion.js";
import { TargetFailure } from "../target/failure.js";
import type { Target } from "../target/target.js";

/** Which keys a token sees. */
export interface Attention {
  readonly window?: number;
  readonly mode: "lambda" | "full";
}

/** Rounding may put the log-probability of a sure token this far above 0. */
const ROUNDING = 1e-3;

const bodyOf = (ids: readonly number[], attention: Attention) => ({
  prompt: ids,
  max_tokens: 0,
  echo: true,
  logprobs: 0,
  temperature: 0, // a lambdatap server then cuts the prompt in the same way each time
  lm_infinite: attention,
});

/**
 * NLL (nat) of every token of a prompt but the first, in order, as they are computed. Nothing is kept.
 * @throws TargetFailure: also nonsense where there are fewer or more than the prompt has tokens, or some that are no
 * log-probability.
 */
export async function* promptNll(
  target: Target,
  ids: readonly number[],
  attention: Attention,
  signal?: AbortSignal,
): AsyncGenerator<readonly number[], void> {
  let known = 0;
  for await (const { choice } of streamCompletion(target, bodyOf(ids, attention), signal)) {
    const nll = choice === null ? [] : nllOf(target, choice, known);
    known += nll.length;
    if (known > ids.length) throw wrongCount(target, known, ids.length);
    if (nll.length > 0) yield known === nll.length ? nll.slice(1) : nll;
  }
  if (known < ids.length) throw wrongCount(target, known, ids.length);
}

/** NLL (nat) of a prompt's last token. @throws TargetFailure as `promptNll`. */
export async function lastNll(
  target: Target,
  ids: readonly number[],
  attention: Attention,
  signal?: AbortSignal,
): Promise<number> {
  const nll = nllOf(target, await complete(target, bodyOf(ids, attention), signal), 0);
  const last = nll.at(-1);
  if (last === undefined || nll.length !== ids.length) throw wrongCount(target, nll.length, ids.length);
  return last;
}

/** Of tokens from `start` on; NaN for the first token of the prompt, which nothing predicts. */
function nllOf(target: Target, { logprobs }: Choice, start: number): number[] {
  return (logprobs?.token_logprobs ?? []).map((logprob, i) => {
    if (start + i === 0) return Number.NaN;
    if (logprob !== null && Number.isFinite(logprob) && logprob <= ROUNDING) return -logprob;
    throw new TargetFailure("nonsense", `${target.url} gives prompt token ${start + i} the log-probability ${logprob}`);
  });
}

const wrongCount = (target: Target, received: number, expected: number) =>
  new TargetFailure("nonsense", `${target.url} gives ${received} log-probabilities for ${expected} prompt tokens`, 200);
