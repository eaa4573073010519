import { z } from "zod";

/** GPT-2's split (Radford et al. 2019), the one inside ByteLevel. */
const GPT2_SPLIT = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const Sequence = z.looseObject({ type: z.literal("Sequence"), pretokenizers: z.array(z.unknown()) });
const Digits = z.looseObject({ type: z.literal("Digits"), individual_digits: z.boolean().default(false) });
const ByteLevel = z.looseObject({
  type: z.literal("ByteLevel"),
  add_prefix_space: z.literal(false),
  use_regex: z.literal(true).default(true),
});

/**
 * Rewrites a `pre_tokenizer` of tokenizer.json so that @huggingface/tokenizers 0.2.0 splits like the Rust library.
 * Its Digits knows only 0-9 (Rust: every \p{N}), and the \s inside its ByteLevel is JavaScript's, which takes U+FEFF for
 * white space but not U+0085. Its Split translates patterns properly, so both become Splits.
 */
export function exactSplits(spec: unknown): unknown {
  const sequence = Sequence.safeParse(spec);
  if (sequence.success) return { ...sequence.data, pretokenizers: sequence.data.pretokenizers.map(exactSplits) };
  const digits = Digits.safeParse(spec);
  if (digits.success) return split(digits.data.individual_digits ? "\\p{N}" : "\\p{N}+");
  const byteLevel = ByteLevel.safeParse(spec);
  if (byteLevel.success) {
    return { type: "Sequence", pretokenizers: [split(GPT2_SPLIT), { ...byteLevel.data, use_regex: false }] };
  }
  return spec;
}

const split = (pattern: string) => ({
  type: "Split",
  pattern: { Regex: pattern },
  behavior: "Isolated",
  invert: false,
});
