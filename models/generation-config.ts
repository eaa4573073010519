import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { parseFields, readFields, TokenId, TokenIds, whole } from "./config.js";
import type { JsonObject } from "./model-file.js";
import type { TextFrame } from "./tokenizer/text-frame.js";

const within = (least: number, most: number) => {
  const must = `it must be a number from ${least} to ${most}`;
  return z.number(must).min(least, must).max(most, must).nullish();
};
const share = z
  .number("it must be above 0 and at most 1")
  .positive("it must be above 0 and at most 1")
  .max(1, "it must be above 0 and at most 1");

const GenerationFile = z.object({
  bos_token_id: TokenId.nullish(),
  eos_token_id: TokenIds.nullish(),
  do_sample: z.boolean("it must be true or false").nullish(),
  temperature: within(0, 100),
  top_p: share.nullish(),
  top_k: whole(0, Number.MAX_SAFE_INTEGER).nullish(),
  min_p: within(0, 1),
  repetition_penalty: within(0.01, 100),
  max_new_tokens: whole(1, Number.MAX_SAFE_INTEGER).nullish(),
});

/** What changes a text, and is not done here unless a request asks for it: vLLM leaves it alone, too. */
const UNHEEDED = [
  ...["num_beams", "num_beam_groups", "penalty_alpha", "dola_layers", "constraints", "force_words_ids"],
  ...["typical_p", "epsilon_cutoff", "eta_cutoff", "top_h", "guidance_scale", "watermarking_config"],
  ...["no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "sequence_bias"],
  ...["bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "exponential_decay_length_penalty"],
  ...["min_length", "min_new_tokens", "stop_strings"],
];
const UNDONE = "what generation_config.json says is not done unless a request asks for it";
const FORCED = ["forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids"];

/** What a model's authors recommend; undefined where they say nothing. */
export interface GenerationConfig {
  readonly bosTokenId?: number | undefined;
  /** What stands around every text; left out: nothing. */
  readonly frame?: TextFrame | undefined;
  readonly eosTokenIds?: readonly number[] | undefined;
  /** 0 is greedy. */
  readonly temperature?: number | undefined;
  readonly topP?: number | undefined;
  /** 0 keeps all. */
  readonly topK?: number | undefined;
  readonly minP?: number | undefined;
  readonly repetitionPenalty?: number | undefined;
  /** Length of an answer where nobody says how long it may be. */
  readonly maxNewTokens?: number | undefined;
  /** Sentences: what they recommend, too, and is not done, and where their files disagree. */
  readonly notices?: readonly string[] | undefined;
}

/**
 * generation_config.json of a model folder; empty where there is none. As in vLLM, its sampling values and its length are
 * what a request has that says nothing. `do_sample: false` is a temperature of 0; then the shares and numbers of candidates
 * are not in use.
 * @throws ModelFormatError naming the field.
 */
export function readGenerationConfig(folder: string): GenerationConfig {
  const file = join(folder, "generation_config.json");
  if (!existsSync(file)) return {};
  const fields = readFields(file);
  const found = parseFields(GenerationFile, fields);
  const unheeded = unheededOf(fields.values);
  return {
    bosTokenId: found.bos_token_id ?? undefined,
    eosTokenIds: found.eos_token_id ?? undefined,
    repetitionPenalty: found.repetition_penalty ?? undefined,
    maxNewTokens: found.max_new_tokens ?? undefined,
    ...(unheeded.length > 0 ? { notices: [`${UNDONE}: ${unheeded.join(", ")}`] } : {}),
    ...(found.do_sample === false
      ? { temperature: 0 }
      : {
          temperature: found.temperature ?? undefined,
          topP: found.top_p ?? undefined,
          topK: found.top_k ?? undefined,
          minP: found.min_p ?? undefined,
        }),
  };
}

function unheededOf(values: JsonObject): string[] {
  const isForced = (name: string) => (values[name] ?? null) !== null;
  const asks = (name: string) => {
    const value = values[name] ?? null;
    return typeof value === "object"
      ? Object.keys(value ?? {}).length > 0
      : ![false, 0, 1, ""].some((no) => no === value);
  };
  return [...UNHEEDED.filter(asks), ...FORCED.filter(isForced)];
}
