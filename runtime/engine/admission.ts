import { archivedTokens, MOST_RETRIEVED, toRetrieval } from "../cache/retrieval.js";
import { InvalidRequest } from "../contract/errors.js";
import { type FeatureEdit, LARGEST_EDIT, MOST_EDITS, repeatedEdit, type SaeCard } from "../contract/features.js";
import type { LambdaOptions, ModelCard, SamplingParams, SequenceRequest } from "../contract/generation.js";
import { BOUNDS, LONGEST_STOP, MOST_SEQUENCES, MOST_STOPS } from "../contract/request-bounds.js";

/** A value and whether it is allowed; where it is not, the field's name on the wire and what it must be. */
type Rule = readonly [allowed: boolean, param: string, must: string];

/**
 * Takes the sequences of a request that this model can run.
 * @param fullLength tokens that `mode: full` has memory for
 * @throws InvalidRequest naming the field that this model cannot run.
 */
export function admit(sequences: readonly SequenceRequest[], card: ModelCard, fullLength: number): void {
  if (sequences.length === 0) throw new InvalidRequest("there is nothing to generate", "prompt");
  if (sequences.length > MOST_SEQUENCES)
    throw new InvalidRequest(`a request brings at most ${MOST_SEQUENCES} sequences, not ${sequences.length}`, "prompt");
  for (const prompt of new Set(sequences.map(({ prompt }) => prompt))) checkIds(prompt, card, "prompt");
  for (const [i, sequence] of sequences.entries()) {
    const before = sequences[i - 1];
    const rules = [
      ...(before !== undefined && haveSameLists(before, sequence) ? [] : listRules(sequence, card)),
      ...lengthRules(sequence, card),
      ...samplingRules(sequence.sampling),
      ...lambdaRules(sequence.lambda, sequence.prompt.length, card, fullLength),
      ...retrieveRules(sequence, card),
      ...featureRules(sequence, card),
    ];
    for (const [allowed, param, must] of rules) {
      if (!allowed) throw new InvalidRequest(`it must be ${must}`, param);
    }
  }
}

/** Whether what `listRules` says of one it says of the other: choices of a request have the same lists, which may be long. */
function haveSameLists(one: SequenceRequest, other: SequenceRequest): boolean {
  const lists = ({ stop, stopTokenIds, edits, minTokens, ignoreEos, sampling }: SequenceRequest) => {
    const { logitBias, allowedTokenIds, badWords } = sampling;
    return [stop, stopTokenIds, edits, minTokens, ignoreEos, logitBias, allowedTokenIds, badWords];
  };
  const others = lists(other);
  return lists(one).every((list, i) => list === others[i]);
}

/** @throws InvalidRequest naming an id that is not in the vocabulary. */
function listRules(sequence: SequenceRequest, card: ModelCard): Rule[] {
  const { stopTokenIds, sampling } = sequence;
  const { allowedTokenIds = [], badWords = [], logitBias } = sampling;
  checkIds(stopTokenIds, card, "stop_token_ids");
  checkIds(allowedTokenIds, card, "allowed_token_ids");
  for (const word of badWords) checkIds(word, card, "bad_words");
  for (const [id] of logitBias) checkIds([id], card, "logit_bias");
  return [...biasRules(sampling), ...stopRules(sequence), ...maskRules(sequence, card), ...editRules(sequence, card)];
}

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

function lengthRules(
  { prompt, maxTokens, minTokens, logprobs, promptLogprobs }: SequenceRequest,
  { id, longest }: ModelCard,
): Rule[] {
  const room = longest === null || prompt.length + (maxTokens === 0 ? 0 : 1) <= longest;
  return [
    [prompt.length > 0, "prompt", "one token or more"],
    [room, "prompt", `shorter: ${id} has learned ${longest} positions, and there is no text beyond them`],
    [maxTokens === null || isCount(maxTokens), "max_tokens", "an integer of 0 or more"],
    [isCount(minTokens), "min_tokens", "an integer of 0 or more"],
    [[logprobs, promptLogprobs].every((n) => n === null || isCount(n)), "logprobs", "an integer of 0 or more"],
  ];
}

function samplingRules(sampling: SamplingParams): Rule[] {
  const { temperature, topP, topK, minP, repetitionPenalty, presencePenalty, frequencyPenalty, seed } = sampling;
  const isShare = (value: number) => value >= 0 && value <= 1;
  return [
    bounded(temperature, BOUNDS.temperature, "temperature"),
    [isShare(topP), "top_p", "a number from 0 to 1"],
    [isCount(topK), "top_k", "an integer of 0 or more"],
    [isShare(minP), "min_p", "a number from 0 to 1"],
    bounded(repetitionPenalty, BOUNDS.repetitionPenalty, "repetition_penalty"),
    bounded(presencePenalty, BOUNDS.penalty, "presence_penalty"),
    bounded(frequencyPenalty, BOUNDS.penalty, "frequency_penalty"),
    [seed === undefined || Number.isSafeInteger(seed), "seed", "an integer"],
  ];
}

function biasRules({ logitBias }: SamplingParams): Rule[] {
  const { bias } = BOUNDS;
  const must = `numbers from ${bias.least} to ${bias.most} by token id`;
  return [[logitBias.every(([, value]) => isWithin(value, bias)), "logit_bias", must]];
}

function stopRules({ stop }: SequenceRequest): Rule[] {
  const short = stop.length <= MOST_STOPS && stop.every((text) => text.length <= LONGEST_STOP);
  return [[short, "stop", `at most ${MOST_STOPS} strings of at most ${LONGEST_STOP} characters`]];
}

interface Bounds {
  readonly least: number;
  readonly most: number;
}

const isWithin = (value: number, { least, most }: Bounds): boolean => value >= least && value <= most; // NaN is not

const bounded = (value: number, bounds: Bounds, param: string): Rule => [
  isWithin(value, bounds),
  param,
  `a number from ${bounds.least} to ${bounds.most}`,
];

/** What is always forbidden must leave something of what is allowed. */
function maskRules({ sampling, minTokens, stopTokenIds, ignoreEos }: SequenceRequest, card: ModelCard): Rule[] {
  const { allowedTokenIds, badWords = [] } = sampling;
  const ends = minTokens > 0 ? [...stopTokenIds, ...(ignoreEos ? [] : card.eosTokenIds)] : [];
  const forbidden = new Set([...ends, ...badWords.flatMap((word) => (word.length === 1 ? word : []))]);
  const left = allowedTokenIds?.some((id) => !forbidden.has(id)) ?? true;
  return [
    [left, "allowed_token_ids", "one token or more that neither bad_words nor min_tokens forbids"],
    [badWords.every((word) => word.length > 0), "bad_words", "words of one token or more"],
  ];
}

function lambdaRules(lambda: LambdaOptions, length: number, card: ModelCard, fullLength: number): Rule[] {
  const { window, sinks, mode } = lambda;
  const isWindow = window === undefined || (Number.isSafeInteger(window) && window >= 1 && window <= card.window);
  const isSinks = sinks === undefined || sinks === card.sinks || sinks === 0;
  return [
    [isWindow, "lm_infinite.window", `1 to ${card.window}, the window of ${card.id}`],
    [
      mode !== "full" || window === undefined,
      "lm_infinite.window",
      "left out with mode full, in which every token sees all before it",
    ],
    [isSinks, "lm_infinite.sinks", `${card.sinks}, as ${card.id} is served with, or 0`],
    [
      mode !== "full" || length < fullLength,
      "lm_infinite.mode",
      `lambda: full keeps every key, and this machine has memory for ${fullLength} tokens`,
    ],
  ];
}

function retrieveRules(sequence: SequenceRequest, card: ModelCard): Rule[] {
  const { lambda, maxTokens, prompt } = sequence;
  if (lambda.retrieve === undefined) return [];
  const window = lambda.window ?? card.window;
  const { k, fromLayer, distance } = toRetrieval(lambda.retrieve, window, card);
  const field = "lm_infinite.retrieve";
  const room = card.archiveTokens ?? 0;
  const tokens = archivedTokens(sequence, prompt.length);
  const most = Math.min(window, MOST_RETRIEVED);
  return [
    [card.archiveTokens !== null, field, `left out: no layer of ${card.id} can retrieve`],
    [lambda.mode !== "full", field, "left out with mode full, which evicts nothing"],
    [
      maxTokens !== null && maxTokens > 0,
      "max_tokens",
      `a number with ${field}: memory is set aside for so many tokens`,
    ],
    [
      tokens <= room,
      field,
      `for ${room} tokens of prompt and answer or fewer, not ${tokens} (the server's --archive-mb says how many)`,
    ],
    [isCount(k) && k >= 1 && k <= most, `${field}.k`, `from 1 to ${most}`],
    [isCount(fromLayer) && fromLayer < card.layers, `${field}.from_layer`, `from 0 to ${card.layers - 1}`],
    [isCount(distance) && distance <= window, `${field}.distance`, `from 0 to ${window}, the window`],
  ];
}

const namesOf = (saes: readonly SaeCard[]): string =>
  `of ${saes.map(({ id }) => id).join(", ") || "none, because no SAE is attached"}`;

function editRules({ edits }: SequenceRequest, { saes }: ModelCard): Rule[] {
  const known = new Map(saes.map((sae) => [sae.id, sae]));
  const isFeature = ({ sae, feature }: FeatureEdit) => isCount(feature) && feature < (known.get(sae)?.dSae ?? 0);
  const isValue = ({ value }: FeatureEdit) => Math.abs(value) <= LARGEST_EDIT; // NaN is not
  return [
    [edits.length <= MOST_EDITS, "edits", `${MOST_EDITS} edits or fewer`],
    [edits.every(({ sae }) => known.has(sae)), "edits", namesOf(saes)],
    [edits.every(isFeature), "edits", "of features that their SAEs have"],
    [edits.every(isValue), "edits", `of values from -${LARGEST_EDIT} to ${LARGEST_EDIT}`],
    [repeatedEdit(edits) === null, "edits", "at most one of each feature, but for additions"],
  ];
}

function featureRules({ features }: SequenceRequest, { saes }: ModelCard): Rule[] {
  if (features === null) return [];
  const known = new Map(saes.map((sae) => [sae.id, sae]));
  const { activation, top } = features;
  const widest = (k: number) => features.saes.every((id) => k <= (known.get(id)?.dSae ?? 0));
  return [
    [features.saes.length > 0 && features.saes.every((id) => known.has(id)), "features.saes", namesOf(saes)],
    [isCount(top), "features.top", "an integer of 0 or more"],
    [
      activation.kind !== "top-k" || (isCount(activation.k) && activation.k > 0 && widest(activation.k)),
      "features.activation.top_k",
      "from 1 to the width of every SAE asked for",
    ],
  ];
}

/** Prompts of a million tokens pass here, on the thread that serves requests. */
function checkIds(ids: Int32Array | readonly number[], { vocabSize }: ModelCard, param: string): void {
  for (const id of ids) {
    if (Number.isInteger(id) && id >= 0 && id < vocabSize) continue;
    throw new InvalidRequest(`token id ${id} is not in 0..${vocabSize - 1}`, param);
  }
}
