import { Hono } from "hono";
import type { ModelCard, SequenceRequest } from "../../runtime/generation.js";
import { readJson } from "../body.js";
import type { AppEnv } from "../exchange.js";
import type { ModelRegistry } from "../model-registry.js";
import { checkAnswerSize } from "../openai/answer-size.js";
import { choiceDeltas, type Tally } from "../openai/choice-deltas.js";
import { type CompletionHead, completion, completionChunks } from "../openai/completion.js";
import { parseCompletionRequest } from "../openai/completion-request.js";
import { toSequences } from "../openai/sequences.js";
import { replyTo } from "../reply.js";

export interface CompletionSettings {
  readonly maxBodyBytes: number;
  /** Silence on a stream after which a comment line is sent. */
  readonly pingMs: number;
  /** Largest max_tokens; undefined: no limit. */
  readonly maxTokensLimit?: number | undefined;
  /** Says which build answered; begins with "b". */
  readonly systemFingerprint: string;
}

/** POST /v1/completions (OpenAI; fields beyond OpenAI's are those of CompletionRequest). */
export function completions(models: ModelRegistry, settings: CompletionSettings): Hono<AppEnv> {
  return new Hono<AppEnv>().post("/v1/completions", async (c) => {
    const request = parseCompletionRequest(await readJson(c.req.raw, settings.maxBodyBytes));
    const { name, engine } = models.get(request.model);
    const work = await toSequences(request, engine, settings.maxTokensLimit);
    if (!request.stream) checkWholeAnswer(work.sequences, engine.card);
    const head: CompletionHead = {
      id: `cmpl-${c.var.exchange.id}`,
      object: "text_completion",
      created: Math.floor(Date.now() / 1000),
      model: name,
      system_fingerprint: settings.systemFingerprint,
    };
    const tally: Tally = { promptTokens: work.promptTokens, completionTokens: 0 };
    const reply = replyTo(c, settings.pingMs, () => ({ model: name, ...tally }));
    const events = engine.generate(work.sequences, reply.signal); // refuses here, while a status can still say so
    const deltas = choiceDeltas(events, request, work, engine, tally);
    return request.stream
      ? reply.stream(completionChunks(head, request, work, deltas, tally))
      : reply.whole(completion(head, request, work, deltas, tally));
  });
}

/** What is known before of the readings in an answer in one piece; what is not is counted as it comes (completion.ts). */
function checkWholeAnswer(sequences: readonly SequenceRequest[], card: ModelCard): void {
  const [features] = sequences.map((sequence) => sequence.features);
  if (!features) return;
  const read = (sum: number, { prompt, maxTokens }: SequenceRequest) =>
    sum + (features.prompt ? prompt.length : 0) + (maxTokens ?? 0);
  checkAnswerSize(sequences.reduce(read, 0), features, card);
}
