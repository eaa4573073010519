/** GPT-2's way to split a text into words (Radford et al. 2019), which is also inside of ByteLevel. */
export const GPT2_SPLIT = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** GPT-4's (tiktoken's cl100k_base), with the numbers as a hole: Llama 3 takes three digits at once, Qwen2 one. */
export const gpt4Split = (numbers: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** DeepSeek-V3's, for what is neither a number nor Chinese or Japanese. */
const DEEPSEEK_SPLIT =
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** GPT-4o's (o200k_base). */
const GPT4O_SPLIT =
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** Patterns of which one match ends with every letter that white space follows, and none holds both. */
export const WORD_SPLITS: ReadonlySet<string> = new Set([
  GPT2_SPLIT,
  gpt4Split("\\p{N}"),
  gpt4Split("\\p{N}{1,3}"),
  DEEPSEEK_SPLIT,
  GPT4O_SPLIT,
]);

/** Patterns whose matches hold no white space and do not look around. */
export const LOCAL_SPLITS: ReadonlySet<string> = new Set([
  "\\p{N}",
  "\\p{N}+",
  "\\p{N}{1,3}",
  "[0-9][0-9][0-9]",
  "[\\p{P}\\$\\+<=>\\^~\\|]+",
  "[一-龥぀-ゟ゠-ヿ]+",
]);
