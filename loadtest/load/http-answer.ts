import { readCompletion, readStreamedPart, refusal } from "../target/completion-answer.js";
import { TargetFailure } from "../target/failure.js";
import { parseJson } from "../target/parse-json.js";
import type { Answer } from "./outcomes.js";
import type { StreamEvent } from "./stream-events.js";

/** An answer to POST /v1/completions as it came over the wire. */
export interface RawAnswer {
  readonly url: string;
  readonly status: number;
  readonly type: string;
  readonly body: string;
  /** performance.now() when its request was sent. */
  readonly sentAt: number;
  /** Of a stream. */
  readonly events: readonly StreamEvent[];
  /** Tokens that were asked for. */
  readonly maxTokens: number;
}

/** @throws TargetFailure: refused, nonsense. */
export function readWhole({ url, status, body, sentAt, maxTokens }: RawAnswer): Answer {
  const latencyMs = performance.now() - sentAt;
  if (status !== 200) throw refusal(url, status, body);
  const { usage } = readCompletion(url, parseJson(url, body, status));
  checkLength(url, usage.completion_tokens, maxTokens);
  return { latencyMs, tokens: usage.completion_tokens, promptTokens: usage.prompt_tokens, arrivals: [] };
}

/** @throws TargetFailure: refused, nonsense, broken off. */
export function readStream({ url, status, type, body, sentAt, events, maxTokens }: RawAnswer): Answer {
  const latencyMs = performance.now() - sentAt;
  if (status !== 200) throw refusal(url, status, body);
  if (!type.startsWith("text/event-stream"))
    throw new TargetFailure("nonsense", `${url} answers a stream with '${type}'`, status);
  const end = events.findIndex(({ data }) => data === "[DONE]");
  const parts = events
    .slice(0, end < 0 ? events.length : end)
    .map(({ data, at }) => ({ ...readStreamedPart(url, data), at }));
  if (end < 0) throw new TargetFailure("broken off", `${url} ended its stream before [DONE]`, status);
  // An event with no text may stand for half a character; one that only says why the answer ended stands for no token.
  const pieces = parts.filter(({ choice }) => choice !== null && (choice.text !== "" || !choice.finish_reason));
  const usage = parts.findLast((part) => part.usage !== null)?.usage ?? null;
  const tokens = usage?.completion_tokens ?? pieces.length;
  checkLength(url, tokens, maxTokens);
  const arrivals = pieces.map(({ at }) => at - sentAt);
  return { latencyMs, tokens, promptTokens: usage?.prompt_tokens ?? null, arrivals };
}

function checkLength(url: string, tokens: number, maxTokens: number): void {
  if (tokens <= maxTokens) return;
  throw new TargetFailure("nonsense", `${url} answers with ${tokens} tokens where ${maxTokens} were asked for`, 200);
}
