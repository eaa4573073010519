import { createParser, type EventSourceMessage } from "eventsource-parser";
import { type Completion, readCompletion, readStreamedPart, refusal, type StreamedPart } from "./completion-answer.js";
import { TargetFailure } from "./failure.js";
import { request, type ServerAnswer } from "./request.js";
import type { Target } from "./target.js";

export type { Choice, Completion } from "./completion-answer.js";

/** The body of POST /v1/completions; fields beyond these go through as they are. */
export interface CompletionBody {
  readonly prompt: string | readonly number[];
  readonly max_tokens: number;
  readonly [field: string]: unknown;
}

/** @throws TargetFailure; the signal's reason when it aborts. */
export async function complete(target: Target, body: CompletionBody, signal?: AbortSignal): Promise<Completion> {
  const answer = await ask(target, body, signal);
  return readCompletion(target.url, await answer.json());
}

/**
 * A completion as server-sent events, its usage last. Leaving the loop hangs up.
 * @throws TargetFailure: also "broken off" where the stream ends without [DONE]; the signal's reason when it aborts.
 */
export async function* streamCompletion(
  target: Target,
  body: CompletionBody,
  signal?: AbortSignal,
): AsyncGenerator<StreamedPart, void> {
  const answer = await ask(target, { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  try {
    if (!answer.type.startsWith("text/event-stream"))
      throw new TargetFailure("nonsense", `${target.url} answers a stream with '${answer.type}'`, answer.status);
    const waiting: EventSourceMessage[] = [];
    const parser = createParser({ onEvent: (event) => waiting.push(event) });
    const decoder = new TextDecoder();
    for await (const piece of answer.body) {
      parser.feed(decoder.decode(piece, { stream: true }));
      for (const { data } of waiting.splice(0)) {
        if (data === "[DONE]") return;
        yield readStreamedPart(target.url, data);
      }
    }
    throw new TargetFailure("broken off", `${target.url} ended its stream before [DONE]`, answer.status);
  } finally {
    answer.close();
  }
}

async function ask(target: Target, body: CompletionBody, signal?: AbortSignal): Promise<ServerAnswer> {
  const answer = await request(target, "/v1/completions", { model: target.model, ...body }, signal);
  if (answer.status !== 200) throw refusal(target.url, answer.status, await answer.text());
  return answer;
}
