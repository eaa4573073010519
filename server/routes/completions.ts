import { type Context, Hono } from "hono";
import { readJson } from "../body.js";
import { ClientGone } from "../errors.js";
import type { AppEnv } from "../exchange.js";
import type { ModelRegistry } from "../model-registry.js";
import { choiceDeltas, type Tally } from "../openai/choice-deltas.js";
import { type CompletionHead, completion, completionChunks } from "../openai/completion.js";
import { parseCompletionRequest } from "../openai/completion-request.js";
import { toSequences } from "../openai/sequences.js";
import { eventStream, sseEvent } from "../sse.js";

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
    const { exchange } = c.var;
    const request = parseCompletionRequest(await readJson(c.req.raw, settings.maxBodyBytes));
    const { name, engine } = models.get(request.model);
    const work = await toSequences(request, engine, settings.maxTokensLimit);
    const head: CompletionHead = {
      id: `cmpl-${exchange.id}`,
      object: "text_completion",
      created: Math.floor(Date.now() / 1000),
      model: name,
      system_fingerprint: settings.systemFingerprint,
    };
    const tally: Tally = { promptTokens: work.promptTokens, completionTokens: 0 };
    const client = follow(c.req.raw.signal);
    const events = engine.generate(work.sequences, client.signal); // refuses here, while a status can still say so
    const deltas = choiceDeltas(events, request, work, engine, tally);
    const end = (clientGone: boolean) => {
      exchange.note({ model: name, ...tally, ...(clientGone ? { clientGone } : {}) });
      client.abort();
    };
    if (!request.stream) {
      try {
        return c.json(await completion(head, request, work, deltas, tally));
      } catch (error) {
        throw client.signal.aborted ? new ClientGone("The client hung up") : error;
      } finally {
        end(client.signal.aborted);
      }
    }
    const release = exchange.hold();
    const lines = toEvents(c, completionChunks(head, request, work, deltas, tally), client.signal);
    const body = eventStream(lines, settings.pingMs, (left) => {
      end(left);
      release();
    });
    return c.body(body, 200, { "Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache" });
  });
}

/** The chunks as server-sent events. After the headers an error can only be one more event; then no [DONE] follows. */
async function* toEvents(
  c: Context<AppEnv>,
  chunks: AsyncIterable<object>,
  gone: AbortSignal,
): AsyncGenerator<string, void> {
  try {
    for await (const chunk of chunks) yield sseEvent(JSON.stringify(chunk));
    yield sseEvent("[DONE]");
  } catch (error) {
    if (!gone.aborted) yield sseEvent(JSON.stringify(c.var.exchange.fail(error).body));
  }
}

/** A controller that aborts when the signal does, and can also be aborted by us. */
function follow(signal: AbortSignal): AbortController {
  const controller = new AbortController();
  if (signal.aborted) controller.abort();
  else signal.addEventListener("abort", () => controller.abort(), { once: true });
  return controller;
}
