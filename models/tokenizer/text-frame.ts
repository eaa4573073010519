import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { type ConfigFields, fieldError, parseFields } from "../config.js";
import { isJsonObject, type JsonObject, readJsonObject } from "../model-file.js";

/** Ids of the special tokens that a tokenizer puts around a text. */
export interface TextFrame {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

export const NO_FRAME: TextFrame = { before: [], after: [] };

/** What the files of a tokenizer say of the tokens around a text. */
export interface FramingTokens {
  readonly frame: TextFrame;
  /** The beginning-of-text token, whether texts begin with it or not; undefined where the files name none. */
  readonly bosTokenId: number | undefined;
  /** A sentence where the files disagree. */
  readonly notice: string | null;
}

const token = z
  .union([z.string(), z.object({ content: z.string() })], "it must be a token, or an object with its content")
  .transform((found) => (typeof found === "string" ? found : found.content))
  .nullish();
const flag = z.boolean("it must be true or false").nullish();
const TokenizerConfig = z.object({ add_bos_token: flag, add_eos_token: flag, bos_token: token, eos_token: token });

/**
 * The special tokens around a text, as transformers 5 has them: the post-processor of tokenizer.json says it alone, whatever
 * tokenizer_config.json and config.json hold. Only where tokenizer.json has no post-processor do the `add_bos_token` and
 * `add_eos_token` of tokenizer_config.json count.
 * @throws ModelFormatError naming file and field.
 */
export function readFramingTokens(folder: string): FramingTokens {
  const file = join(folder, "tokenizer.json");
  if (!existsSync(file)) return { frame: NO_FRAME, bosTokenId: undefined, notice: null };
  const values = readJsonObject(file);
  const configFile = join(folder, "tokenizer_config.json");
  const config = { file: configFile, values: existsSync(configFile) ? readJsonObject(configFile) : {} };
  const { bos_token: bos, add_bos_token: asked } = parseFields(TokenizerConfig, config);
  const processor = values.post_processor ?? null;
  const frame = processor === null ? configuredFrame(config, values) : processorFrame({ file, values });
  const bosTokenId = frame.before[0] ?? (bos ? idOf(bos, values) : undefined);
  const adds = frame.before.length > 0;
  const disagree = `tokenizer_config.json says add_bos_token: ${asked}, the post-processor of tokenizer.json otherwise: that counts`;
  return { frame, bosTokenId, notice: typeof asked === "boolean" && asked !== adds ? disagree : null };
}

function configuredFrame(config: ConfigFields, tokenizer: JsonObject): TextFrame {
  const found = parseFields(TokenizerConfig, config);
  const asked = (kind: "bos" | "eos"): number[] => {
    if (!found[`add_${kind}_token`]) return [];
    const text = found[`${kind}_token`];
    const id = text ? idOf(text, tokenizer) : undefined;
    if (id === undefined)
      throw fieldError(config, [`${kind}_token`], `add_${kind}_token asks for a token that tokenizer.json has`);
    return [id];
  };
  return { before: asked("bos"), after: asked("eos") };
}

const Vocabulary = z.object({
  added_tokens: z.array(z.object({ id: z.int(), content: z.string() })).nullish(),
  model: z.object({ vocab: z.unknown() }),
});
const Ranked = z.array(z.tuple([z.string()]).rest(z.unknown()));

function idOf(text: string, tokenizer: JsonObject): number | undefined {
  const { data } = Vocabulary.safeParse(tokenizer);
  const added = data?.added_tokens?.find(({ content }) => content === text);
  if (added) return added.id;
  const vocab = data?.model.vocab;
  if (isJsonObject(vocab)) {
    const id = Object.hasOwn(vocab, text) ? vocab[text] : undefined;
    return typeof id === "number" ? id : undefined;
  }
  const rank = Ranked.safeParse(vocab).data?.findIndex(([piece]) => piece === text) ?? -1;
  return rank < 0 ? undefined : rank;
}

const KINDS = ["TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel", "Sequence"] as const;
const Kind = z.object({ type: z.enum(KINDS, `the post-processors known here are ${KINDS.join(", ")}`) });
const Piece = z.union(
  [z.object({ SpecialToken: z.object({ id: z.string() }) }), z.object({ Sequence: z.object({ id: z.literal("A") }) })],
  "it must be a SpecialToken or the Sequence A",
);
const ids = z.array(z.int().nonnegative(), "it must be a list of token ids");
const Template = z.object({
  single: z.array(Piece, "it must be a list of pieces"),
  special_tokens: z.record(z.string(), z.object({ ids }), "it must have the ids of each special token").default({}),
});
const end = z.tuple([z.string(), z.int().nonnegative()], "it must be a token and its id");
const Ends = z.object({ cls: end, sep: end });
const Processors = z.object({
  processors: z.array(z.record(z.string(), z.unknown()), "it must be a list of post-processors"),
});

/** What the post-processor of a tokenizer.json puts around a single text. */
const processorFrame = (tokenizer: ConfigFields): TextFrame =>
  frameOf(within(tokenizer, parseFields(z.object({ post_processor: Part }), tokenizer).post_processor));

const Part = z.record(z.string(), z.unknown(), "it must be an object");

const within = ({ file }: ConfigFields, values: JsonObject): ConfigFields => ({ file, at: "post_processor", values });

function frameOf(processor: ConfigFields): TextFrame {
  switch (parseFields(Kind, processor).type) {
    case "ByteLevel":
      return NO_FRAME;
    case "TemplateProcessing":
      return templateFrame(processor);
    case "BertProcessing":
    case "RobertaProcessing": {
      const { cls, sep } = parseFields(Ends, processor);
      return { before: [cls[1]], after: [sep[1]] };
    }
    case "Sequence": {
      const frames = parseFields(Processors, processor).processors.map((part) => frameOf(within(processor, part)));
      const [frame = NO_FRAME, second] = frames.filter(({ before, after }) => before.length + after.length > 0);
      if (second) throw fieldError(processor, ["processors"], "only one of them may add special tokens");
      return frame;
    }
  }
}

function templateFrame(processor: ConfigFields): TextFrame {
  const { single, special_tokens } = parseFields(Template, processor);
  const text = single.findIndex((piece) => "Sequence" in piece);
  if (text < 0 || single.findLastIndex((piece) => "Sequence" in piece) !== text)
    throw fieldError(processor, ["single"], "it must have the text in it once");
  const idsOf = (pieces: typeof single): number[] =>
    pieces.flatMap((piece) => {
      if ("Sequence" in piece) return [];
      const { id } = piece.SpecialToken;
      const named = Object.hasOwn(special_tokens, id) ? special_tokens[id] : undefined;
      if (!named) throw fieldError(processor, ["special_tokens"], `the template names ${JSON.stringify(id)}`);
      return named.ids;
    });
  return { before: idsOf(single.slice(0, text)), after: idsOf(single.slice(text + 1)) };
}
