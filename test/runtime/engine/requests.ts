import type { GenerationEvent, SequenceRequest } from "../../../runtime/contract/generation.js";

/** What a test asks that differs; its prompt may be a list. */
export type Asked = Partial<
  Omit<SequenceRequest, "prompt"> & { readonly prompt: Int32Array<ArrayBuffer> | readonly number[] }
>;

/** A greedy request of 8 tokens that nothing else ends, but for what differs. */
export function sequenceRequest({ prompt = [1], ...asked }: Asked): SequenceRequest {
  return {
    prompt: prompt instanceof Int32Array ? prompt : new Int32Array(prompt),
    maxTokens: 8,
    minTokens: 0,
    ignoreEos: true,
    stopTokenIds: [],
    stop: [],
    sampling: {
      temperature: 0,
      topP: 1,
      topK: 0,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      logitBias: [],
    },
    logprobs: null,
    promptLogprobs: null,
    lambda: {},
    features: null,
    edits: [],
    editsFrom: "generation",
    ...asked,
  };
}

type Kind<Type extends GenerationEvent["type"]> = Extract<GenerationEvent, { type: Type }>;

/** The events of one kind, of one sequence. */
export function ofKind<Type extends GenerationEvent["type"]>(
  events: readonly GenerationEvent[],
  type: Type,
  index = 0,
): Kind<Type>[] {
  const isWanted = (event: GenerationEvent): event is Kind<Type> => event.type === type && event.index === index;
  return events.filter(isWanted);
}

/** Generated token ids of a sequence. */
export const idsOf = (events: readonly GenerationEvent[], index = 0): number[] =>
  ofKind(events, "token", index).map(({ tokenId }) => tokenId);

/** The whole text of a sequence. */
export const textOf = (events: readonly GenerationEvent[], index = 0): string =>
  [...ofKind(events, "token", index), ...ofKind(events, "end", index)].map(({ text }) => text).join("");

/** Log-probability of every prompt token but the first. */
export const promptLogprobs = (events: readonly GenerationEvent[], index = 0): number[] =>
  ofKind(events, "prompt", index).flatMap(({ logprobs }) =>
    logprobs.flatMap((entry) => (entry ? [entry.logprob] : [])),
  );
