import { Hono } from "hono";
import { readBody } from "../body.js";
import { ClientGone } from "../errors.js";
import type { AppEnv } from "../exchange.js";
import { fieldRules } from "../ignored-fields.js";
import type { ModelRegistry } from "../model-registry.js";
import type { AnswerHead } from "../openai/answer.js";
import { checkWholeAnswer } from "../openai/answer-size.js";
import { chatChunks, chatCompletion } from "../openai/chat-completion.js";
import { chatLogprobs } from "../openai/chat-logprobs.js";
import { toChatSequences, withoutTurnEnds } from "../openai/chat-sequences.js";
import { choiceDeltas, type Tally } from "../openai/choice-deltas.js";
import { parseChatRequest } from "../openai/request/chat-request.js";
import { replyTo } from "../reply.js";
import type { CompletionSettings } from "./completions.js";

/** POST /v1/chat/completions (OpenAI; fields beyond OpenAI's are those of ChatBody). */
export function chatCompletions(models: ModelRegistry, settings: CompletionSettings): Hono<AppEnv> {
  return new Hono<AppEnv>().post("/v1/chat/completions", async (c) => {
    const body = await readBody(c.req.raw, settings.maxBodyBytes);
    const request = parseChatRequest(body, fieldRules(c, settings.strictFields));
    const { name, engine } = models.get(request.model);
    const { signal } = c.req.raw;
    const work = await toChatSequences(request, engine, signal, settings).catch((error: unknown) => {
      throw signal.aborted ? new ClientGone("The client hung up") : error;
    });
    if (!request.stream) checkWholeAnswer(request, work.sequences, engine.card);
    const head = (object: string): AnswerHead => ({
      id: `chatcmpl-${c.var.exchange.id}`,
      object,
      created: Math.floor(Date.now() / 1000),
      model: name,
      system_fingerprint: settings.systemFingerprint,
    });
    const tally: Tally = { promptTokens: work.promptTokens, completionTokens: 0, cachedTokens: 0 };
    const reply = replyTo(c, settings.pingMs, () => ({ model: name, ...tally }));
    const events = engine.generate(work.sequences, reply.signal); // refuses here, while a status can still say so
    const deltas = choiceDeltas(withoutTurnEnds(events, work), request, work, engine, chatLogprobs, tally);
    return request.stream
      ? reply.stream(chatChunks({ head: head("chat.completion.chunk"), request, work, deltas, tally }))
      : reply.whole(chatCompletion({ head: head("chat.completion"), request, work, deltas, tally }));
  });
}
