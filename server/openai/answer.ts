import { countLogprobs, countNumbers } from "./answer-size.js";
import { type ChoiceDelta, nothing, type Tally } from "./choice-deltas.js";
import type { TokenFeatures } from "./features.js";
import type { LogprobsForm } from "./logprobs-form.js";
import type { PromptLogprob } from "./prompt-logprobs.js";
import type { GenerationRequest } from "./request/generation-fields.js";
import type { CompletionWork } from "./sequences.js";
import { toUsage, type Usage } from "./usage.js";

/** What an answer and every one of its chunks begin with. */
export interface AnswerHead {
  readonly id: string;
  readonly object: string;
  readonly created: number;
  readonly model: string;
  readonly system_fingerprint: string;
}

/** An answer, or a chunk of one, with choices as one of OpenAI's interfaces has them. */
export interface Answer<C> extends AnswerHead {
  readonly choices: readonly C[];
  /** In a stream only with include_usage: null but on the last chunk. */
  readonly usage?: Usage | null | undefined;
}

/** Fields of every choice, whatever the interface, beyond OpenAI's. What is undefined is left out of the JSON. */
export interface VendorFields {
  /** vLLM: the stop string or stop token id that ended it. */
  readonly stop_reason: string | number | null;
  /** With return_token_ids; in a stream on the first chunk of a choice. */
  readonly prompt_token_ids: readonly number[] | undefined;
  /** With return_token_ids. */
  readonly token_ids: readonly number[] | undefined;
  /** With features. */
  readonly features: readonly TokenFeatures[] | undefined;
}

export function vendorFields(
  delta: ChoiceDelta<unknown>,
  request: GenerationRequest,
  promptIds?: readonly number[],
): VendorFields {
  return {
    stop_reason: delta.stopReason,
    prompt_token_ids: promptIds,
    token_ids: request.return_token_ids ? delta.tokenIds : undefined,
    features: request.features ? delta.features : undefined,
  };
}

/** A choice, or what a chunk adds to it, as the interface writes it. */
export type ToChoice<L, C> = (delta: ChoiceDelta<L>, promptIds?: readonly number[]) => C;

/** What is being answered. */
export interface Answering<L> {
  readonly head: AnswerHead;
  readonly request: GenerationRequest;
  readonly work: CompletionWork;
  readonly deltas: AsyncIterable<ChoiceDelta<L>>;
  readonly tally: Readonly<Tally>;
}

/** The whole answer. @throws InvalidRequest where the readings of its tokens become too many for one. */
export async function wholeAnswer<L, C>(
  { head, request, work, deltas, tally }: Answering<L>,
  form: LogprobsForm<L>,
  toChoice: ToChoice<L, C>,
): Promise<Answer<C>> {
  const sums = work.sequences.map(
    (_, index): Sum<L> => ({
      index,
      text: "",
      logprobs: request.logprobs === null ? null : form.none(),
      promptLogprobs: [],
      tokenIds: [],
      features: [],
      finishReason: null,
      stopReason: null,
    }),
  );
  const count = countNumbers();
  const countTokens = countLogprobs();
  for await (const delta of deltas) {
    const sum = sums[delta.index];
    if (sum === undefined) continue;
    sum.text += delta.text;
    sum.tokenIds.push(...delta.tokenIds);
    countTokens(delta.tokenIds.length, request.logprobs);
    sum.promptLogprobs.push(...delta.promptLogprobs);
    for (const token of delta.features) {
      count(token);
      sum.features.push(token);
    }
    if (sum.logprobs && delta.logprobs) form.append(sum.logprobs, delta.logprobs);
    sum.finishReason = delta.finishReason;
    sum.stopReason = delta.stopReason;
  }
  const idsOf = promptIds(request, work);
  const choices = sums.map((sum) => toChoice(sum, idsOf(sum.index)));
  return { ...head, choices, usage: toUsage(tally) };
}

/**
 * The answer in chunks: one per event that the client would notice; usage last, with no choices, if asked for.
 * @param opening a first chunk of every choice, where the interface has one
 */
export async function* answerChunks<L, C>(
  { head, request, work, deltas, tally }: Answering<L>,
  toChoice: ToChoice<L, C>,
  opening?: ToChoice<L, C>,
): AsyncGenerator<Answer<C>, void> {
  const includeUsage = request.stream_options?.include_usage === true;
  const continuous = includeUsage && request.stream_options?.continuous_usage_stats === true;
  const chunk = (choice: C): Answer<C> => ({
    ...head,
    choices: [choice],
    // How many prompt tokens were not computed is known when the choices have ended.
    usage: continuous ? toUsage({ ...tally, cachedTokens: null }) : includeUsage ? null : undefined,
  });
  const begun = new Set<number>();
  const idsOf = promptIds(request, work);
  const idsOnce = (index: number) => {
    if (begun.has(index)) return undefined;
    begun.add(index);
    return idsOf(index);
  };
  if (opening) for (const index of work.sequences.keys()) yield chunk(opening(nothing(index), idsOnce(index)));
  for await (const delta of deltas) {
    if (!continuous && !request.return_token_ids && isSilent(delta)) continue;
    yield chunk(toChoice(delta, idsOnce(delta.index)));
  }
  if (includeUsage) yield { ...head, choices: [], usage: toUsage(tally) };
}

/** Prompt ids as JSON has them, if they are asked for: one list for all choices of a prompt. */
function promptIds(request: GenerationRequest, work: CompletionWork): (index: number) => readonly number[] | undefined {
  const lists = new Map<Int32Array, readonly number[]>();
  return (index) => {
    if (!request.return_token_ids) return undefined;
    const { ids } = work.promptOf(index);
    const list = lists.get(ids) ?? [...ids];
    lists.set(ids, list);
    return list;
  };
}

/** The deltas of a choice, added up. */
interface Sum<L> extends ChoiceDelta<L> {
  text: string;
  readonly promptLogprobs: PromptLogprob[];
  readonly tokenIds: number[];
  readonly features: TokenFeatures[];
  finishReason: ChoiceDelta<L>["finishReason"];
  stopReason: ChoiceDelta<L>["stopReason"];
}

function isSilent(delta: ChoiceDelta<unknown>): boolean {
  return delta.text === "" && delta.logprobs === null && delta.features.length === 0 && delta.finishReason === null;
}
