import { createParser, type EventSourceMessage } from "eventsource-parser";
import * as z from "zod";
import { TargetFailure } from "./failure.js";
import { request, type ServerAnswer } from "./request.js";
import type { Target } from "./target.js";

/** The body of POST /v1/completions; fields beyond these go through as they are. */
export interface CompletionBody {
  readonly prompt: string | readonly number[];
  readonly max_tokens: number;
  readonly [field: string]: unknown;
}

const Logprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()),
});

const Choice = z.object({
  text: z.string(),
  finish_reason: z.string().nullish(),
  logprobs: Logprobs.nullish(),
  prompt_token_ids: z.array(z.int()).nullish(),
  token_ids: z.array(z.int()).nullish(),
});
export type Choice = z.output<typeof Choice>;

const Usage = z.object({ prompt_tokens: z.int().min(0), completion_tokens: z.int().min(0) });
export type Usage = z.output<typeof Usage>;

const Whole = z.object({ choices: z.array(Choice).min(1), usage: Usage });
const Chunk = z.object({ choices: z.array(Choice), usage: Usage.nullish() });
const ErrorAnswer = z.object({ error: z.object({ message: z.string() }) });

/** A completion in one piece: its first choice. */
export interface Completion extends Choice {
  readonly usage: Usage;
}

/** A piece of a stream, as it arrived. */
export interface CompletionChunk {
  readonly choice: Choice | null;
  readonly usage: Usage | null;
  /** performance.now() when its bytes were here. */
  readonly at: number;
}

/** @throws TargetFailure; the signal's reason when it aborts. */
export async function complete(target: Target, body: CompletionBody, signal?: AbortSignal): Promise<Completion> {
  const answer = await ask(target, body, signal);
  const parsed = Whole.safeParse(await answer.json());
  if (!parsed.success) throw nonsense(target, parsed.error);
  const [choice] = parsed.data.choices;
  if (choice === undefined) throw new TargetFailure("nonsense", `${target.url} answers without a choice`);
  return { ...choice, usage: parsed.data.usage };
}

/**
 * A completion as server-sent events, its usage last. Leaving the loop hangs up.
 * @throws TargetFailure: also "broken off" where the stream ends without [DONE]; the signal's reason when it aborts.
 */
export async function* streamCompletion(
  target: Target,
  body: CompletionBody,
  signal?: AbortSignal,
): AsyncGenerator<CompletionChunk, void> {
  const answer = await ask(target, { ...body, stream: true, stream_options: { include_usage: true } }, signal);
  if (!answer.type.startsWith("text/event-stream"))
    throw new TargetFailure("nonsense", `${target.url} answers a stream with '${answer.type}'`, answer.status);
  const waiting: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => waiting.push(event) });
  const decoder = new TextDecoder();
  for await (const piece of answer.body) {
    const at = performance.now();
    parser.feed(decoder.decode(piece, { stream: true }));
    for (const { data } of waiting.splice(0)) {
      if (data === "[DONE]") return;
      yield { ...readChunk(target, data), at };
    }
  }
  throw new TargetFailure("broken off", `${target.url} ended its stream before [DONE]`);
}

async function ask(target: Target, body: CompletionBody, signal?: AbortSignal): Promise<ServerAnswer> {
  const answer = await request(target, "/v1/completions", { model: target.model, ...body }, signal);
  if (answer.status === 200) return answer;
  const text = await answer.text();
  throw new TargetFailure("refused", `${target.url} answers ${answer.status}: ${errorText(text)}`, answer.status);
}

function readChunk(target: Target, data: string): Pick<CompletionChunk, "choice" | "usage"> {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch (error) {
    const message = `${target.url} streams what is no JSON: ${data.slice(0, 80)}`;
    throw new TargetFailure("nonsense", message, 200, { cause: error });
  }
  const failed = ErrorAnswer.safeParse(value);
  if (failed.success) throw new TargetFailure("refused", `${target.url} streams: ${failed.data.error.message}`, 200);
  const parsed = Chunk.safeParse(value);
  if (!parsed.success) throw nonsense(target, parsed.error);
  return { choice: parsed.data.choices[0] ?? null, usage: parsed.data.usage ?? null };
}

function errorText(text: string): string {
  try {
    const parsed = ErrorAnswer.safeParse(JSON.parse(text));
    if (parsed.success) return parsed.data.error.message;
  } catch {
    // not JSON: shown as it is
  }
  return text.slice(0, 200);
}

function nonsense(target: Target, error: z.ZodError): TargetFailure {
  const [issue] = error.issues;
  const where = issue?.path.join(".") ?? "";
  return new TargetFailure("nonsense", `${target.url} answers nonsense: ${where}: ${issue?.message}`, 200);
}
