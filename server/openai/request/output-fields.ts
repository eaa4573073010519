import * as z from "zod";
import { InvalidRequest } from "../../../runtime/contract/errors.js";
import type { Engine } from "../../../runtime/contract/generation.js";
import { firstNonId } from "./prompt.js";

const MOST_ALLOWED = 1 << 20;
const MOST_BAD_WORDS = 1024;
const LONGEST_BAD_WORD = 256;

/** Read by hand: zod would make an object per id, and a vocabulary may have 262,144. */
const AllowedTokenIds = z.unknown().transform((value, ctx): readonly number[] => {
  const refuse = (message: string, path: number[] = []): never => {
    ctx.issues.push({ code: "custom", message, input: undefined, path });
    return z.NEVER;
  };
  if (!Array.isArray(value)) return refuse("expected an array of token ids");
  const ids: readonly unknown[] = value;
  if (ids.length === 0) return refuse("expected at least one token id; leave it out to allow all");
  if (ids.length > MOST_ALLOWED) return refuse(`expected at most ${MOST_ALLOWED} token ids`);
  const isIds = (list: readonly unknown[]): list is readonly number[] => firstNonId(list) === -1;
  if (isIds(ids)) return ids;
  return refuse("expected a token id (an integer of at least 0)", [firstNonId(ids)]);
});

const BadWord = z
  .string()
  .min(1, { error: "expected a word, not an empty text" })
  .max(LONGEST_BAD_WORD, { error: `expected a word of at most ${LONGEST_BAD_WORD} characters` })
  .refine((word) => !/\p{Surrogate}/u.test(word), { error: "expected text, not half of a surrogate pair" });

/** vLLM's fields for what may be drawn, and for what is told of it. */
export const outputFields = {
  allowed_token_ids: AllowedTokenIds.nullish(),
  bad_words: z
    .array(BadWord)
    .max(MOST_BAD_WORDS, { error: `expected at most ${MOST_BAD_WORDS} words` })
    .nullish(),
  include_stop_str_in_output: z.boolean().nullish(),
  skip_special_tokens: z.boolean().nullish(),
  /** Only the slow tokenizers of transformers put spaces there, so this changes nothing here. */
  spaces_between_special_tokens: z.boolean().nullish(),
  /** As in vLLM, not in a stream: it is told at once, and would be the whole prompt in the first chunk. */
  prompt_logprobs: z.int().min(0).max(20).nullish(),
};

/** Why the prompt's log-probabilities cannot be told, or null. */
export function wrongPromptLogprobs(request: {
  readonly prompt_logprobs?: number | null | undefined;
  readonly stream?: boolean | null | undefined;
}): string | null {
  if (typeof request.prompt_logprobs !== "number" || !request.stream) return null;
  return "expected without stream: a stream of completions has them with echo and logprobs";
}

/**
 * Every word as the sequences of tokens that stand for it at the beginning and in the middle of a text: without and with a
 * space in front (vLLM's `bad_words`).
 * @throws InvalidRequest where the model has no tokenizer, or a word no tokens that the model knows.
 */
export async function badWordIds(words: readonly string[], engine: Engine): Promise<number[][]> {
  if (words.length > 0 && !engine.card.hasTokenizer)
    throw new InvalidRequest("this model has no tokenizer to find their tokens", "bad_words");
  const fields = new Map<string, string>();
  for (const [place, word] of words.entries()) {
    const bare = word.replace(/^ +/, "");
    for (const form of bare === "" ? [word] : [bare, ` ${bare}`]) fields.set(form, `bad_words[${place}]`);
  }
  const sequences = await Promise.all([...fields].map(([form, field]) => engine.encode(form, field)));
  return sequences.filter((ids) => ids.length > 0).map((ids) => [...ids]);
}
