import { MOST_SEQUENCES } from "../../runtime/contract/request-bounds.js";
import { InvalidRequest } from "../../runtime/errors.js";
import type { Engine, ModelCard, SamplingParams, SequenceRequest } from "../../runtime/generation.js";
import type { CompletionRequest } from "./completion-request.js";
import { copySeed } from "./copy-seed.js";
import { checkEdits } from "./edits.js";
import { toFeatureRequest } from "./feature-request.js";
import type { GenerationRequest } from "./generation-fields.js";
import { toLambdaOptions } from "./lambda-infinite.js";
import { answerTokens, type TokenLimits } from "./max-tokens.js";
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
  const choiceOf = toChoices(request, engine.card, limits);
  const n = request.n ?? 1;
  const most = Math.floor(MOST_SEQUENCES / request.prompt.length);
  if (n > most) throw new InvalidRequest(`expected at most ${most} with ${request.prompt.length} prompts`, "n");
  const prompts = await Promise.all(request.prompt.map((prompt) => tokenize(prompt, engine, request.echo === true)));
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
export function toChoices(request: GenerationRequest, card: ModelCard, limits: TokenLimits = {}): ChoiceOf {
  checkIds(request.stop_token_ids ?? [], "stop_token_ids", card);
  for (const [id] of request.logit_bias ?? []) checkId(id, `logit_bias.${id}`, card);
  const features = request.features ? toFeatureRequest(request.features, card) : null;
  checkEdits(request.edits ?? [], card);
  return ({ ids }, copy) => ({
    prompt: ids,
    maxTokens: answerTokens(request, ids.length, card, limits),
    minTokens: request.min_tokens ?? 0,
    ignoreEos: request.ignore_eos ?? false,
    stopTokenIds: request.stop_token_ids ?? [],
    stop: request.stop ?? [],
    sampling: toSampling(request, card, copy),
    logprobs: request.logprobs,
    promptLogprobs: request.echo ? request.logprobs : null,
    lambda: toLambdaOptions(request.lm_infinite),
    features,
    edits: request.edits ?? [],
    editsFrom: request.edits_from ?? "generation",
  });
}

function toSampling(request: GenerationRequest, card: ModelCard, copy: number): SamplingParams {
  const topP = request.top_p ?? card.sampling.topP ?? 1;
  return {
    // Nothing but the likeliest token reaches a share of 0.
    temperature: topP === 0 ? 0 : (request.temperature ?? card.sampling.temperature ?? 1),
    topP,
    topK: Math.max(0, request.top_k ?? card.sampling.topK ?? 0),
    minP: request.min_p ?? 0,
    repetitionPenalty: request.repetition_penalty ?? 1,
    presencePenalty: request.presence_penalty ?? 0,
    frequencyPenalty: request.frequency_penalty ?? 0,
    logitBias: request.logit_bias ?? [],
    seed: typeof request.seed === "number" ? copySeed(request.seed, copy) : undefined,
  };
}
