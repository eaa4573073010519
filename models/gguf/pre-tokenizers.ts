import { GPT2_SPLIT, gpt4Split } from "../tokenizer/split-patterns.js";

/** How llama.cpp prepares a text for byte-pair merging, by the names that it gives its ways. */
export interface PreTokenizer {
  /** Patterns that cut the text one after the other; what matches and what lies between stand alone. */
  readonly splits: readonly string[];
  /** A piece that is a token as a whole is not merged. */
  readonly ignoreMerges: boolean;
  /** Prompts begin with the beginning-of-text token where the file does not say. */
  readonly addsBos: boolean;
}

const plain = (...splits: string[]): PreTokenizer => ({ splits, ignoreMerges: false, addsBos: false });

const gpt2 = plain(GPT2_SPLIT);
const singleDigits = plain("\\p{N}", GPT2_SPLIT);
const qwen2 = plain(gpt4Split("\\p{N}"));
const llama3: PreTokenizer = { splits: [gpt4Split("\\p{N}{1,3}")], ignoreMerges: true, addsBos: true };

/** By tokenizer.ggml.pre. */
export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map([
  ["default", plain("[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2_SPLIT, "\\p{N}+", "[0-9][0-9][0-9]")],
  ["gpt-2", gpt2],
  ["smollm", singleDigits],
  ["starcoder", singleDigits],
  ["qwen2", qwen2],
  ["deepseek-r1-qwen", qwen2],
  ["llama-bpe", llama3],
  ["llama3", llama3],
  ["llama-v3", llama3],
]);
