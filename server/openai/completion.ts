import { countNumbers } from "./answer-size.js";
import type { ChoiceDelta, Tally } from "./choice-deltas.js";
import type { CompletionRequest } from "./completion-request.js";
import type { TokenFeatures } from "./features.js";
import { appendLogprobs, type LegacyLogprobs, noLogprobs } from "./legacy-logprobs.js";
import type { CompletionWork } from "./sequences.js";
import { toUsage, type Usage } from "./usage.js";

/** What the object and every one of its chunks begin with. */
export interface CompletionHead {
  readonly id: string;
  readonly object: "text_completion";
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

export interface CompletionChoice {
  readonly index: number;
  readonly text: string;
  readonly logprobs: LegacyLogprobs | null;
  readonly finish_reason: "stop" | "length" | null;
  /** vLLM: the stop string or stop token id that ended it. */
  readonly stop_reason: string | number | null;
  /** With return_token_ids; in a stream on the first chunk of a choice. */
  readonly prompt_token_ids?: readonly number[];
  /** With return_token_ids. */
  readonly token_ids?: readonly number[];
  /** With features. */
  readonly features?: readonly TokenFeatures[];
}

export interface Completion extends CompletionHead {
  readonly choices: readonly CompletionChoice[];
  /** In a stream only with include_usage: null but on the last chunk. */
  readonly usage?: Usage | null;
}

/** The whole answer. @throws InvalidRequest where the readings of its tokens become too many for one. */
export async function completion(
  head: CompletionHead,
  request: CompletionRequest,
  work: CompletionWork,
  deltas: AsyncIterable<ChoiceDelta>,
  tally: Readonly<Tally>,
): Promise<Completion> {
  const sums = work.sequences.map(
    (_, index): Sum => ({
      index,
      text: "",
      logprobs: request.logprobs === null ? null : noLogprobs(),
      tokenIds: [],
      features: [],
      finishReason: null,
      stopReason: null,
    }),
  );
  const count = countNumbers();
  for await (const delta of deltas) {
    const sum = sums[delta.index];
    if (sum === undefined) continue;
    sum.text += delta.text;
    sum.tokenIds.push(...delta.tokenIds);
    for (const token of delta.features) {
      count(token);
      sum.features.push(token);
    }
    if (sum.logprobs && delta.logprobs) appendLogprobs(sum.logprobs, delta.logprobs);
    sum.finishReason = delta.finishReason;
    sum.stopReason = delta.stopReason;
  }
  const choices = sums.map((sum) => toChoice(sum, request, work.promptOf(sum.index).ids));
  return { ...head, choices, usage: toUsage(tally) };
}

/** The answer in chunks: one per event that the client would notice; usage last, with no choices, if asked for. */
export async function* completionChunks(
  head: CompletionHead,
  request: CompletionRequest,
  work: CompletionWork,
  deltas: AsyncIterable<ChoiceDelta>,
  tally: Readonly<Tally>,
): AsyncGenerator<Completion, void> {
  const includeUsage = request.stream_options?.include_usage === true;
  const continuous = includeUsage && request.stream_options?.continuous_usage_stats === true;
  const begun = new Set<number>();
  for await (const delta of deltas) {
    if (!continuous && !request.return_token_ids && isSilent(delta)) continue;
    const promptIds = begun.has(delta.index) ? undefined : work.promptOf(delta.index).ids;
    begun.add(delta.index);
    const usage = includeUsage ? { usage: continuous ? toUsage(tally) : null } : {};
    yield { ...head, choices: [toChoice(delta, request, promptIds)], ...usage };
  }
  if (includeUsage) yield { ...head, choices: [], usage: toUsage(tally) };
}

/** The deltas of a choice, added up. */
interface Sum extends ChoiceDelta {
  text: string;
  readonly tokenIds: number[];
  readonly features: TokenFeatures[];
  finishReason: ChoiceDelta["finishReason"];
  stopReason: ChoiceDelta["stopReason"];
}

function isSilent(delta: ChoiceDelta): boolean {
  return delta.text === "" && delta.logprobs === null && delta.features.length === 0 && delta.finishReason === null;
}

function toChoice(delta: ChoiceDelta, request: CompletionRequest, promptIds?: readonly number[]): CompletionChoice {
  return {
    index: delta.index,
    text: delta.text,
    logprobs: delta.logprobs,
    finish_reason: delta.finishReason,
    stop_reason: delta.stopReason,
    ...(request.return_token_ids && promptIds ? { prompt_token_ids: promptIds } : {}),
    ...(request.return_token_ids ? { token_ids: delta.tokenIds } : {}),
    ...(request.features ? { features: delta.features } : {}),
  };
}
