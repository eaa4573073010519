const byteTokens = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
const words = ["▁", "h", "i", "t", "e", "hi", "▁hi", "th", "the", "▁the", "▁▁"];
const specials = ["<unk>", "<s>", "</s>"];

/** Id of a byte's fallback token. */
export const byteId = (byte: number): number => specials.length + byte;
/** Id of a word of the vocabulary below. */
export const wordId = (word: string): number => specials.length + byteTokens.length + words.indexOf(word);

/** The fields that every added token has. */
export const addedToken = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: false };

/** A tokenizer.json as Llama 2 has it (SentencePiece BPE with byte fallback), with eleven words. Ids 0..269. */
export const sentencePiece = {
  version: "1.0",
  added_tokens: specials.map((content, id) => ({ ...addedToken, id, content, special: true })),
  normalizer: {
    type: "Sequence",
    normalizers: [
      { type: "Prepend", prepend: "▁" },
      { type: "Replace", pattern: { String: " " }, content: "▁" },
    ],
  },
  pre_tokenizer: null,
  post_processor: null,
  decoder: {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: { String: "▁" }, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  },
  model: {
    type: "BPE",
    unk_token: "<unk>",
    fuse_unk: true,
    byte_fallback: true,
    vocab: Object.fromEntries([...specials, ...byteTokens, ...words].map((token, id) => [token, id])),
    merges: ["h i", "▁ hi", "t h", "th e", "▁ the", "▁ ▁"],
  },
};
