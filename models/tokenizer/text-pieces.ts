import { z } from "zod";
import { LOCAL_SPLITS, WORD_SPLITS } from "./split-patterns.js";

/** What of a tokenizer.json decides whether its texts can be cut. */
export interface CutRules {
  readonly normalizer?: unknown;
  readonly pre_tokenizer?: unknown;
  readonly model: {
    readonly type?: string | undefined;
    readonly continuing_subword_prefix?: string | null | undefined;
    readonly end_of_word_suffix?: string | null | undefined;
  };
  readonly added_tokens?:
    | readonly { readonly content: string; readonly rstrip: boolean; readonly single_word: boolean }[]
    | null
    | undefined;
}

const Form = z.looseObject({ type: z.enum(["NFC", "NFD"]) });
const Forms = z.looseObject({ type: z.literal("Sequence"), normalizers: z.array(Form) });
const Normalizer = z.union([Form, Forms]).nullish();
const Sequence = z.looseObject({ type: z.literal("Sequence"), pretokenizers: z.array(z.unknown()) });
const Split = z.looseObject({
  type: z.literal("Split"),
  pattern: z.strictObject({ Regex: z.string() }),
  behavior: z.literal("Isolated"),
  invert: z.literal(false).default(false),
});
const Digits = z.looseObject({ type: z.literal("Digits") });
const ByteLevel = z.looseObject({
  type: z.literal("ByteLevel"),
  add_prefix_space: z.literal(false),
  use_regex: z.boolean().default(true),
});

/**
 * Whether a text may be cut behind a letter and before a space or newline: the ids of the parts are the ids of the whole.
 * That holds where the pre-tokenizer ends a word there in every text and sees nothing across it: its patterns match from
 * left to right, none of their matches holds a letter with white space behind it, and they look at what follows with
 * (?!\S) only, which takes the end of a text for white space. NFC and NFD leave such a place alone (UAX 15, section 9.1).
 * Added tokens are found before all that, so none may reach across the cut or look there.
 */
export function mayBeCut({ normalizer, pre_tokenizer, model, added_tokens }: CutRules): boolean {
  if (model.type !== undefined && model.type !== "BPE") return false;
  if (model.continuing_subword_prefix || model.end_of_word_suffix) return false;
  if (!Normalizer.safeParse(normalizer).success) return false;
  const sequence = Sequence.safeParse(pre_tokenizer);
  const kinds = (sequence.success ? sequence.data.pretokenizers : [pre_tokenizer]).map(kindOf);
  if (kinds.includes("other") || !kinds.includes("words")) return false;
  return (added_tokens ?? []).every(
    ({ content, rstrip, single_word }) => !(rstrip || single_word || /\p{L}[ \n]/u.test(content)),
  );
}

/** `words`: it ends a word at every cut. `local`: it makes no difference there. */
function kindOf(preTokenizer: unknown): "words" | "local" | "other" {
  const split = Split.safeParse(preTokenizer);
  if (split.success) {
    const { Regex } = split.data.pattern;
    return WORD_SPLITS.has(Regex) ? "words" : LOCAL_SPLITS.has(Regex) ? "local" : "other";
  }
  const byteLevel = ByteLevel.safeParse(preTokenizer);
  if (byteLevel.success) return byteLevel.data.use_regex ? "words" : "local";
  return Digits.safeParse(preTokenizer).success ? "local" : "other";
}

/** Letters for every version of Unicode that a library may know: a newer one's are punctuation to an older one. */
const CUT = /[A-Za-zÀ-ÖØ-öø-ʯΑ-ΡΣ-ϵЀ-ҁא-תء-يअ-हぁ-ゖァ-ヺ一-龥가-힣](?=[ \n])/g;

/** The text in pieces of `length` UTF-16 units and as many more as it takes to the next place where it may be cut. */
export function* textPieces(text: string, length: number): Generator<string> {
  let start = 0;
  while (text.length - start > length) {
    CUT.lastIndex = start + length - 1;
    const letter = CUT.exec(text);
    if (!letter) break;
    const end = letter.index + letter[0].length;
    yield text.slice(start, end);
    start = end;
  }
  if (start < text.length) yield text.slice(start);
}
