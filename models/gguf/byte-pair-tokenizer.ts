import type { JsonObject } from "../model-file.js";
import type { MetadataFields } from "./metadata-fields.js";
import { PRE_TOKENIZERS, type PreTokenizer } from "./pre-tokenizers.js";
import { addedTokens, readVocabulary, type Vocabulary, vocabObject } from "./vocabulary.js";

/**
 * tokenizer.json of a byte-level BPE vocabulary (tokenizer.ggml.model "gpt2"). Bytes without a token of their own vanish.
 * @throws ModelFormatError naming the key, the merge, or the pre-tokenizer that is not known.
 */
export function bytePairTokenizer(fields: MetadataFields): JsonObject {
  const { splits, ignoreMerges } = preTokenizer(fields);
  const vocabulary = readVocabulary(fields);
  return {
    added_tokens: addedTokens(vocabulary),
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        ...splits.map((Regex) => ({ type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false })),
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
    model: {
      type: "BPE",
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: ignoreMerges,
      vocab: vocabObject(vocabulary),
      merges: readMerges(fields, vocabulary),
    },
  };
}

/** @throws ModelFormatError where it is absent or not known: another split would silently give other ids. */
export function preTokenizer(fields: MetadataFields): PreTokenizer {
  const found = PRE_TOKENIZERS.get(fields.text("tokenizer.ggml.pre"));
  if (found) return found;
  throw fields.refuse(
    "tokenizer.ggml.pre",
    `the pre-tokenizers known here are ${[...PRE_TOKENIZERS.keys()].join(", ")}`,
  );
}

/** Pairs of tokens; a merge is written with a space between them, and a token may begin with one. */
function readMerges(fields: MetadataFields, { ids }: Vocabulary): (readonly [string, string])[] {
  return fields.texts("tokenizer.ggml.merges").map((merge, i) => {
    const space = merge.indexOf(" ", 1);
    const [left, right] = [merge.slice(0, space), merge.slice(space + 1)];
    const refuse = (reason: string) =>
      fields.refuse("tokenizer.ggml.merges", `merge ${i}, ${JSON.stringify(merge.slice(0, 80))}, ${reason}`);
    if (space < 0) throw refuse("has no space between two tokens");
    for (const part of [left, right])
      if (!ids.has(part)) throw refuse(`names ${JSON.stringify(part.slice(0, 80))}, which is no token`);
    if (!ids.has(left + right)) throw refuse("makes no token");
    return [left, right] as const;
  });
}
