import * as z from "zod";
import { BOUNDS, LONGEST_SALT, LONGEST_STOP, MOST_STOPS } from "../../../runtime/contract/request-bounds.js";
import { Edits } from "./edits.js";
import { FeatureFields } from "./feature-request.js";
import { LambdaInfinite } from "./lambda-infinite.js";
import { outputFields } from "./output-fields.js";

export const flag = z.boolean().nullish();
const count = z.int().min(0).nullish();
const within = ({ least, most }: { readonly least: number; readonly most: number }) => z.number().min(least).max(most);

const StreamOptions = z.object({
  include_usage: flag,
  continuous_usage_stats: flag,
  /** OpenAI pads chunks against traffic analysis; we take the wish and do not pad. */
  include_obfuscation: flag,
});

const StopString = z.string().max(LONGEST_STOP, { error: `expected at most ${LONGEST_STOP} characters` });

/** The empty string stops nothing: clients send it for none. */
const Stop = z
  .union([StopString, z.array(StopString).max(MOST_STOPS, { error: `expected at most ${MOST_STOPS} strings` })], {
    error: `expected a string, or an array of at most ${MOST_STOPS} of them`,
  })
  .transform((stop) => (typeof stop === "string" ? [stop] : stop).filter((text) => text !== ""));

/** vLLM: what was computed of a prompt serves requests with the same salt, or none likewise. Each choice of a request has a copy. */
const CacheSalt = z
  .string()
  .min(1, { error: "expected a string of one character or more" })
  .max(LONGEST_SALT, { error: `expected at most ${LONGEST_SALT} characters` });

/** Counted by zod before it looks at them: a million wrong ones would take it a second. */
const StopTokenIds = z.array(z.int().min(0)).max(1024, { error: "expected at most 1024 token ids" });

/** zod looks into every entry of a record, and takes seconds over a million. */
const MOST_BIASES = 4096;
const fewBiases = (value: unknown): boolean => Object.keys(Object(value)).length <= MOST_BIASES;

/** Token ids are strings on the wire. A bias of 0 changes nothing, so its key may be anything (openai-node sends "foo"). */
const LogitBias = z
  .unknown()
  .refine(fewBiases, { error: `expected at most ${MOST_BIASES} biases` })
  .pipe(z.record(z.string(), within(BOUNDS.bias)))
  .transform((biases, ctx) => {
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

/** Fields of every request that generates, completion or chat: OpenAI's, vLLM's that concern generation, ours. */
export const generationFields = {
  ...outputFields,
  model: z.string().nullish(),
  min_tokens: count,
  n: z.int().min(1).max(128).nullish(),
  seed: Seed.nullish(),
  stop: Stop.nullish(),
  stop_token_ids: StopTokenIds.nullish(),
  ignore_eos: flag,
  stream: flag,
  stream_options: StreamOptions.nullish(),
  temperature: within(BOUNDS.temperature).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().min(-1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  frequency_penalty: within(BOUNDS.penalty).nullish(),
  presence_penalty: within(BOUNDS.penalty).nullish(),
  repetition_penalty: within(BOUNDS.repetitionPenalty).nullish(),
  logit_bias: LogitBias.nullish(),
  lm_infinite: LambdaInfinite.nullish(),
  return_token_ids: flag,
  user: z.string().nullish(),
  features: FeatureFields.nullish(),
  edits: Edits.nullish(),
  edits_from: z.enum(["prompt", "generation"]).nullish(),
  cache_salt: CacheSalt.nullish(),
};

const GenerationFields = z.object(generationFields);
/** What is asked of every choice, however the request was worded. */
export interface GenerationRequest extends z.output<typeof GenerationFields> {
  /** null: until a stop; undefined: as the server has it. */
  readonly max_tokens: number | null | undefined;
  /** What a chat has called it, if it did. */
  readonly max_completion_tokens?: number | null | undefined;
  /** The prompt comes back in front of the text. */
  readonly echo?: boolean | null | undefined;
  /** Alternatives per token; null: no log-probabilities. */
  readonly logprobs: number | null;
}

/** Why the two fields do not go together, or null. */
export function wrongMinTokens(
  minTokens: number | null | undefined,
  maxTokens: number | null | undefined,
): string | null {
  return typeof maxTokens === "number" && (minTokens ?? 0) > maxTokens
    ? `expected at most max_tokens (${maxTokens})`
    : null;
}
