import * as z from "zod";
import { InvalidRequest } from "../../runtime/errors.js";
import { readPrompts } from "./prompt.js";

const flag = z.boolean().nullish();
const count = z.int().min(0).nullish();

const LambdaInfinite = z.strictObject({
  window: z.int().min(1).nullish(),
  sinks: count,
  mode: z.enum(["lambda", "full"]).nullish(),
  retrieve: notYet(),
});

const StreamOptions = z.object({
  include_usage: flag,
  continuous_usage_stats: flag,
  /** OpenAI pads chunks against traffic analysis; we take the wish and do not pad. */
  include_obfuscation: flag,
});

const Stop = z
  .union([z.string().min(1), z.array(z.string().min(1)).max(16)], {
    error: "expected a non-empty string, or an array of at most 16 of them",
  })
  .transform((stop) => (typeof stop === "string" ? [stop] : stop));

/** Token ids are strings on the wire. A bias of 0 changes nothing, so its key may be anything (openai-node sends "foo"). */
const LogitBias = z.record(z.string(), z.number().min(-100).max(100)).transform((biases, ctx) => {
  const pairs: [number, number][] = [];
  for (const [key, bias] of Object.entries(biases)) {
    if (bias === 0) continue;
    if (/^\d{1,15}$/.test(key)) pairs.push([Number(key), bias]);
    else ctx.issues.push({ code: "custom", message: "expected a token id as key", input: key, path: [key] });
  }
  return pairs;
});

/** Any 64-bit integer: beyond 2^53 a JSON number has lost digits, which a seed can bear. */
const Seed = z.number().refine((seed) => Number.isInteger(seed) && Math.abs(seed) <= 2 ** 63, {
  error: "expected an integer of at most 64 bits",
});

/**
 * The body of POST /v1/completions: OpenAI's fields, vLLM's that concern generation, ours. Fields that nobody here knows
 * are ignored, as OpenAI-compatible servers do; fields that a later version will obey are refused until then.
 */
export const CompletionRequest = z
  .object({
    model: z.string().nullish(),
    prompt: z.unknown().transform(readPrompts).prefault(null),
    suffix: z.literal("", { error: "text cannot be inserted before a suffix; leave it out" }).nullish(),
    max_tokens: z.int().min(0).nullable().default(16),
    min_tokens: count,
    n: z.int().min(1).max(128).nullish(),
    best_of: z.int().min(0).nullish(),
    echo: flag,
    logprobs: z.int().min(0).max(20).nullable().default(null),
    seed: Seed.nullish(),
    stop: Stop.nullish(),
    stop_token_ids: z.array(z.int().min(0)).nullish(),
    ignore_eos: flag,
    stream: flag,
    stream_options: StreamOptions.nullish(),
    temperature: z.number().min(0).max(100).nullish(),
    top_p: z.number().gt(0).max(1).nullish(),
    top_k: z.int().min(-1).nullish(),
    min_p: z.number().min(0).max(1).nullish(),
    frequency_penalty: z.number().min(-2).max(2).nullish(),
    presence_penalty: z.number().min(-2).max(2).nullish(),
    repetition_penalty: z.number().gt(0).max(100).nullish(),
    logit_bias: LogitBias.nullish(),
    lm_infinite: LambdaInfinite.nullish(),
    return_token_ids: flag,
    user: z.string().nullish(),
    features: notYet(),
    edits: notYet(),
    edits_from: notYet(),
  })
  .check(({ value, issues }) => {
    const refuse = (field: string, message: string) =>
      issues.push({ code: "custom", message, input: value, path: [field] });
    if (value.best_of && value.best_of !== (value.n ?? 1)) {
      refuse("best_of", "choosing the best of more than n is not supported; leave it out");
    }
    if (value.max_tokens !== null && (value.min_tokens ?? 0) > value.max_tokens) {
      refuse("min_tokens", `expected at most max_tokens (${value.max_tokens})`);
    }
  });
export type CompletionRequest = z.output<typeof CompletionRequest>;

/** @throws InvalidRequest naming the first field that is wrong, as a path: "lm_infinite.window", "prompt[1]". */
export function parseCompletionRequest(body: unknown): CompletionRequest {
  const parsed = CompletionRequest.safeParse(body);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = [...(issue?.path ?? []), ...(issue?.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [])];
  const param = path.length === 0 ? null : fieldPath(path);
  const reason = issue?.code === "unrecognized_keys" ? "unknown field" : issue?.message.replace(/^Invalid input: /, "");
  throw new InvalidRequest(param === null ? `The body is wrong: ${reason}` : `${reason}`, param);
}

function fieldPath(path: readonly PropertyKey[]): string {
  return path
    .map((key, depth) => (typeof key === "number" ? `[${key}]` : `${depth > 0 ? "." : ""}${String(key)}`))
    .join("");
}

function notYet() {
  return z.null({ error: "not available yet" }).optional();
}
