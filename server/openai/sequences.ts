import { InvalidRequest } from "../../runtime/contract/errors.js";
import type { Engine, ModelCard, SamplingParams, SequenceRequest } from "../../runtime/contract/generation.js";
import { MOST_SEQUENCES } from "../../runtime/contract/request-bounds.js";
import { copySeed } from "./copy-seed.js";
import type { CompletionRequest } from "./request/completion-request.js";
import { checkEdits } from "./request/edits.js";
import { toFeatureRequest } from "./request/feature-request.js";
import type { GenerationRequest } from "./request/generation-fields.js";
import { toLambdaOptions } from "./request/lambda-infinite.js";
import { answerTokens, type TokenLimits } from "./request/max-tokens.js";
import { badWordIds } from "./request/output-fields.js";
import { checkId, checkIds, type TokenizedPrompt, tokenize } from "./tokenize.js";

/** What a request asks of the engine. Sequence prompt * n + k is choice prompt * n + k. */
export interface CompletionWork {
  /** Every prompt once, however many choices it has. */
  readonly promptTokens: number;
  readonly sequences: readonly SequenceRequest[];
  /** The prompt of a choice. */
  promptOf(index: number): TokenizedPrompt;
}

/**
 * The meaning of a completion request on this model: its prompts tokenised, each in n choices.
 * @throws InvalidRequest naming the field that this model cannot serve.
 */
export async function toSequences(
  request: CompletionRequest,
  engine: Engine,
  limits?: TokenLimits,
): Promise<CompletionWork> {
  const choiceOf = await toChoices(request, engine, limits);
  const n = request.n ?? 1;
  const most = Math.floor(MOST_SEQUENCES / request.prompt.length);
  if (n > most) throw new InvalidRequest(`expected at most ${most} with ${request.prompt.length} prompts`, "n");
  const how = {
    echo: request.echo === true,
    special: request.add_special_tokens !== false,
    specialText: request.skip_special_tokens === false,
  };
  const prompts = await Promise.all(request.prompt.map((prompt) => tokenize(prompt, engine, how)));
  return workOf(prompts, n, choiceOf);
}

/** What a prompt's choice number `copy` asks of the engine. */
export type ChoiceOf = (prompt: TokenizedPrompt, copy: number) => SequenceRequest;

/** n choices of each prompt. */
export function workOf(prompts: readonly TokenizedPrompt[], n: number, choiceOf: ChoiceOf): CompletionWork {
  const sequences = prompts.flatMap((prompt) => Array.from({ length: n }, (_, copy) => choiceOf(prompt, copy)));
  return {
    promptTokens: prompts.reduce((sum, { ids }) => sum + ids.length, 0),
    sequences,
    promptOf(index) {
      const prompt = prompts[Math.floor(index / n)];
      if (prompt === undefined) throw new RangeError(`the engine speaks of sequence ${index}, of ${sequences.length}`);
      return prompt;
    },
  };
}

/**
 * The meaning of a request's fields on this model: defaults of its generation_config.json, choices with seeds of their own.
 * @throws InvalidRequest naming the field that this model cannot serve, before any prompt is tokenised.
 */
export async function toChoices(
  request: GenerationRequest,
  engine: Engine,
  limits: TokenLimits = {},
): Promise<ChoiceOf> {
  const { card } = engine;
  checkIds(request.stop_token_ids ?? [], "stop_token_ids", card);
  checkIds(request.allowed_token_ids ?? [], "allowed_token_ids", card);
  for (const [id] of request.logit_bias ?? []) checkId(id, `logit_bias.${id}`, card);
  const features = request.features ? toFeatureRequest(request.features, card) : null;
  checkEdits(request.edits ?? [], card);
  const { prompt_logprobs: alternatives = null } = request;
  const echoed = request.echo ? request.logprobs : null;
  const promptLogprobs = alternatives === null ? echoed : Math.max(alternatives, echoed ?? 0);
  const badWords = await badWordIds(request.bad_words ?? [], engine);
  // Made once: the engine looks through what its sequences share once.
  const lists = { stopTokenIds: request.stop_token_ids ?? [], stop: request.stop ?? [], edits: request.edits ?? [] };
  const logitBias = request.logit_bias ?? [];
  return ({ ids }, copy) => ({
    prompt: ids,
    maxTokens: answerTokens(request, ids.length, card, limits),
    minTokens: request.min_tokens ?? 0,
    ignoreEos: request.ignore_eos ?? false,
    ...lists,
    includeStop: request.include_stop_str_in_output ?? false,
    specialText: request.skip_special_tokens === false,
    sampling: { ...toSampling(request, card, copy), logitBias, badWords },
    logprobs: request.logprobs,
    promptLogprobs,
    promptRanks: alternatives !== null,
    lambda: toLambdaOptions(request.lm_infinite),
    features,
    editsFrom: request.edits_from ?? "generation",
    cacheSalt: request.cache_salt ?? undefined,
  });
}

function toSampling(request: GenerationRequest, card: ModelCard, copy: number): Omit<SamplingParams, "logitBias"> {
  const topP = request.top_p ?? card.sampling.topP ?? 1;
  return {
    // Nothing but the likeliest token reaches a share of 0.
    temperature: topP === 0 ? 0 : (request.temperature ?? card.sampling.temperature ?? 1),
    topP,
    topK: Math.max(0, request.top_k ?? card.sampling.topK ?? 0),
    minP: request.min_p ?? card.sampling.minP ?? 0,
    repetitionPenalty: request.repetition_penalty ?? card.sampling.repetitionPenalty ?? 1,
    presencePenalty: request.presence_penalty ?? 0,
    frequencyPenalty: request.frequency_penalty ?? 0,
    allowedTokenIds: request.allowed_token_ids ?? undefined,
    seed: typeof request.seed === "number" ? copySeed(request.seed, copy) : undefined,
  };
}
