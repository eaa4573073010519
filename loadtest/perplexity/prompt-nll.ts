import { type Choice, complete, streamCompletion } from "../target/completion.js";
import { TargetFailure } from "../target/failure.js";
import type { Target } from "../target/target.js";

/** Which keys a token sees. */
export interface Attention {
  readonly window?: number;
  readonly mode: "lambda" | "full";
}

/** All log-probabilities of a prompt and nothing else; greedy, which a lambdatap server cuts in the same way each time. */
const ECHO = { max_tokens: 0, echo: true, logprobs: 0, temperature: 0 };
/** Far more than logits are apart: the token that gets it is chosen. Log-probabilities are those of the raw logits. */
const CERTAIN = 100;
/** Rounding may put the log-probability of a sure token this far above 0. */
const ROUNDING = 1e-3;

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
  for await (const { choice } of streamCompletion(target, { ...ECHO, prompt: ids, lm_infinite: attention }, signal)) {
    const nll = choice === null ? [] : nllOf(target, choice, known);
    known += nll.length;
    if (known > ids.length) throw wrongCount(target, known, ids.length);
    if (nll.length > 0) yield known === nll.length ? nll.slice(1) : nll;
  }
  if (known < ids.length) throw wrongCount(target, known, ids.length);
}

/**
 * NLL (nat) of a token behind a prompt. The token is forced by logit_bias, so that the model's head runs once, and not on
 * every token of the prompt.
 * @throws TargetFailure: also nonsense where the answer is another token, or no log-probability.
 */
export async function nextNll(
  target: Target,
  ids: readonly number[],
  next: number,
  attention: Attention,
  signal?: AbortSignal,
): Promise<number> {
  const forced = { max_tokens: 1, logit_bias: { [next]: CERTAIN }, ignore_eos: true, return_token_ids: true };
  const body = { prompt: ids, logprobs: 0, temperature: 0, lm_infinite: attention, ...forced };
  const choice = await complete(target, body, signal);
  const [nll] = nllOf(target, choice, ids.length);
  const received = choice.token_ids ?? [];
  if (received[0] === next && received.length === 1 && nll !== undefined) return nll;
  const message = `${target.url} was told to say token ${next}, and says ${received.join(", ") || "nothing"}`;
  throw new TargetFailure("nonsense", message, 200);
}

/** Of tokens from `start` on; NaN for the first token of the prompt, which nothing predicts. */
function nllOf(target: Target, { logprobs }: Choice, start: number): number[] {
  return (logprobs?.token_logprobs ?? []).map((logprob, i) => {
    if (start + i === 0) return Number.NaN;
    if (logprob !== null && Number.isFinite(logprob) && logprob <= ROUNDING) return -logprob;
    throw new TargetFailure("nonsense", `${target.url} gives token ${start + i} the log-probability ${logprob}`, 200);
  });
}

const wrongCount = (target: Target, received: number, expected: number) =>
  new TargetFailure("nonsense", `${target.url} gives ${received} log-probabilities for ${expected} prompt tokens`, 200);
