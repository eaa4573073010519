import { Hono } from "hono";
import { readJson } from "../body.js";
import type { AppEnv } from "../exchange.js";
import { fieldRules } from "../ignored-fields.js";
import type { ModelRegistry } from "../model-registry.js";
import type { AnswerHead } from "../openai/answer.js";
import { checkWholeAnswer } from "../openai/answer-size.js";
import { choiceDeltas, type Tally } from "../openai/choice-deltas.js";
import { completion, completionChunks } from "../openai/completion.js";
import { legacyLogprobs } from "../openai/legacy-logprobs.js";
import { parseCompletionRequest } from "../openai/request/completion-request.js";
import type { TokenLimits } from "../openai/request/max-tokens.js";
import { toSequences } from "../openai/sequences.js";
import { replyTo } from "../reply.js";

export interface CompletionSettings extends TokenLimits {
  readonly maxBodyBytes: number;
  /** Silence on a stream after which a comment line is sent. */
  readonly pingMs: number;
  /** Whether fields that nobody knows are refused. */
  readonly strictFields?: boolean;
  /** Says which build answered; begins with "b". */
  readonly systemFingerprint: string;
}

/** POST /v1/completions (OpenAI; fields beyond OpenAI's are those of CompletionRequest). */
export function completions(models: ModelRegistry, settings: CompletionSettings): Hono<AppEnv> {
  return new Hono<AppEnv>().post("/v1/completions", async (c) => {
    const body = await readJson(c.req.raw, settings.maxBodyBytes);
    const request = parseCompletionRequest(body, fieldRules(c, settings.strictFields));
    const { name, engine } = models.get(request.model);
    const work = await toSequences(request, engine, settings);
    if (!request.stream) checkWholeAnswer(request, work.sequences, engine.card);
    const head: AnswerHead = {
      id: `cmpl-${c.var.exchange.id}`,
      object: "text_completion",
      created: Math.floor(Date.now() / 1000),
      model: name,
      system_fingerprint: settings.systemFingerprint,
    };
    const tally: Tally = { promptTokens: work.promptTokens, completionTokens: 0, cachedTokens: 0 };
    const reply = replyTo(c, settings.pingMs, () => ({ model: name, ...tally }));
    const events = engine.generate(work.sequences, reply.signal); // refuses here, while a status can still say so
    const deltas = choiceDeltas(events, request, work, engine, legacyLogprobs, tally);
    const answering = { head, request, work, deltas, tally };
    return request.stream ? reply.stream(completionChunks(answering)) : reply.whole(completion(answering));
  });
}
