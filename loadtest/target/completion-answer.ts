import * as z from "zod";
import { TargetFailure } from "./failure.js";

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

/** What an event of a stream says. */
export interface StreamedPart {
  /** null: the event is of the usage alone. */
  readonly choice: Choice | null;
  readonly usage: Usage | null;
}

/** Reads the body of a whole answer. @throws TargetFailure (nonsense). */
export function readCompletion(url: string, value: unknown): Completion {
  const parsed = Whole.safeParse(value);
  if (!parsed.success) throw nonsense(url, parsed.error);
  const [choice] = parsed.data.choices;
  if (choice === undefined) throw new TargetFailure("nonsense", `${url} answers without a choice`, 200);
  return { ...choice, usage: parsed.data.usage };
}

/** Reads the data of one event, [DONE] excepted. @throws TargetFailure: nonsense; refused where it is an error. */
export function readStreamedPart(url: string, data: string): StreamedPart {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch (error) {
    const message = `${url} streams what is no JSON: ${data.slice(0, 80)}`;
    throw new TargetFailure("nonsense", message, 200, { cause: error });
  }
  const failed = ErrorAnswer.safeParse(value);
  if (failed.success) throw new TargetFailure("refused", `${url} streams: ${failed.data.error.message}`, 200);
  const parsed = Chunk.safeParse(value);
  if (!parsed.success) throw nonsense(url, parsed.error);
  return { choice: parsed.data.choices[0] ?? null, usage: parsed.data.usage ?? null };
}

/** What an answer of another status than 200 means. */
export const refusal = (url: string, status: number, body: string): TargetFailure =>
  new TargetFailure("refused", `${url} answers ${status}: ${errorText(body)}${status === 429 ? BUSY : ""}`, status);

const BUSY = "; with fewer --connections it may have room";

function errorText(text: string): string {
  try {
    const parsed = ErrorAnswer.safeParse(JSON.parse(text));
    if (parsed.success) return parsed.data.error.message;
  } catch {
    // not JSON: shown as it is
  }
  return text.slice(0, 200);
}

function nonsense(url: string, error: z.ZodError): TargetFailure {
  const [issue] = error.issues;
  const where = issue?.path.join(".") || "its body";
  return new TargetFailure("nonsense", `${url} answers nonsense: ${where}: ${issue?.message}`, 200);
}
