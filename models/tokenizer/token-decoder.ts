import { z } from "zod";
import { type TextRules, type TokenEntry, TokenFlag } from "./token-bytes.js";

/** How the tokens of a vocabulary become bytes. */
export interface TokenDecoder {
  /** `flags` without `special`, which is not the decoder's. */
  entry(token: string): TokenEntry;
  readonly rules: TextRules;
}

const Character = z.string().refine((text) => [...text].length === 1, "must be one character");
const Replace = z.object({
  type: z.literal("Replace"),
  pattern: z.union([z.strictObject({ String: z.string().min(1) }), z.strictObject({ Regex: z.string() })]),
  content: z.string(),
});
const Step = z.discriminatedUnion("type", [
  Replace,
  z.object({ type: z.literal("ByteLevel") }),
  z.object({ type: z.literal("ByteFallback") }),
  z.object({ type: z.literal("Fuse") }),
  z.object({ type: z.literal("Strip"), content: Character, start: z.int().nonnegative(), stop: z.literal(0) }),
  z.object({
    type: z.literal("Metaspace"),
    replacement: Character,
    prepend_scheme: z.enum(["first", "never", "always"]).default("always"),
    add_prefix_space: z.boolean().nullish(),
  }),
  z.object({ type: z.literal("WordPiece"), prefix: z.string(), cleanup: z.boolean() }),
  z.object({ type: z.literal("BPEDecoder"), suffix: z.string().min(1) }),
]);
type Step = z.infer<typeof Step>;
const Sequence = z.looseObject({ type: z.literal("Sequence"), decoders: z.array(z.unknown()) });

/** What a step makes of one token; `opens`: it is the first of the text. */
type TokenStep = (token: string, opens: boolean) => string;
/** The `decoder.decode` of the library itself for one token. */
export type LibraryStep = (step: object) => (token: string) => string;

const utf8 = new TextEncoder();

/**
 * Reads the `decoder` of a tokenizer.json as the `tokenizers` library (0.23) does. Steps that work on each token alone
 * (Replace, Strip, Metaspace, WordPiece, BPEDecoder) come first, then those that make bytes of tokens (ByteLevel or
 * ByteFallback), then Fuse, then Strip at the start of the text. Any of them may be left out.
 * @param library for what only the library can do: regular expressions
 * @throws Error with a sentence that names the kind, for every other decoder.
 */
export function tokenDecoder(spec: unknown, library: LibraryStep): TokenDecoder {
  const refuse = (reason: string) => new Error(`its decoder (${describe(spec)}) is not supported: ${reason}`);
  const compiled = new DecoderSteps(library);
  for (const each of flat(spec)) {
    const step = Step.safeParse(each);
    if (!step.success)
      throw refuse(`${describe(each)} is not known, or not with these options: ${problems(step.error)}`);
    const reason = compiled.add(step.data);
    if (reason !== null) throw refuse(reason);
  }
  return compiled.decoder(spec === null || spec === undefined);
}

class DecoderSteps {
  readonly #steps: TokenStep[] = [];
  /** What the text so far is: tokens, tokens of which some are bytes, or one text. */
  #stage: "tokens" | "bytes" | "text" = "tokens";
  #toBytes: "characters" | "ByteLevel" | "ByteFallback" = "characters";
  #suffix: string | null = null;
  #strip = { content: " ", count: 0 };

  constructor(private readonly library: LibraryStep) {}

  /** Gives the reason where the step cannot stand here, or null. */
  add(step: Step): string | null {
    if (step.type === "Fuse") {
      this.#stage = "text";
      return null;
    }
    if (step.type === "Strip" && this.#stage === "text") return this.#stripStart(step);
    if (this.#stage !== "tokens") return `${step.type} after the tokens were joined`;
    if (this.#suffix !== null) return `${step.type} after BPEDecoder`;
    if (step.type === "ByteLevel" || step.type === "ByteFallback") {
      this.#toBytes = step.type;
      this.#stage = step.type === "ByteLevel" ? "text" : "bytes";
    } else if (step.type === "BPEDecoder") this.#suffix = step.suffix;
    else this.#steps.push(tokenStep(step, this.library));
    return null;
  }

  /** @param separate without any decoder: tokens are words, with a space between them */
  decoder(separate: boolean): TokenDecoder {
    const steps = separate ? [spaceBefore] : this.#steps;
    const apply = (token: string, opens: boolean) => steps.reduce((text, step) => step(text, opens), token);
    const spelled = this.#toBytes === "ByteFallback";
    return {
      rules: { spelled, strip: this.#strip },
      entry: (token) => {
        const [text, opening] = [apply(token, false), apply(token, true)];
        const byte = spelled ? fallbackByte(text) : null;
        const flags = byte === null ? this.#spaceBehind(token, text) : TokenFlag.byte;
        const bytes = byte === null ? this.#bytes(text) : Uint8Array.of(byte);
        return opening === text ? { bytes, flags } : { bytes, flags, opening: this.#bytes(opening) };
      },
    };
  }

  #bytes(text: string): Uint8Array {
    if (this.#toBytes === "ByteLevel") return byteLevelBytes(text);
    return utf8.encode(this.#suffix === null ? text : text.replaceAll(this.#suffix, ""));
  }

  /** BPEDecoder puts a space for the suffix, but none at the end of the text. */
  #spaceBehind(token: string, text: string): number {
    if (this.#suffix === null || !text.includes(this.#suffix)) return 0;
    if (text.indexOf(this.#suffix) === text.length - this.#suffix.length) return TokenFlag.spaced;
    throw new Error(`the suffix of its BPEDecoder stands inside of the token ${JSON.stringify(token)}`);
  }

  #stripStart({ content, start }: Extract<Step, { type: "Strip" }>): string | null {
    const { count } = this.#strip;
    if (count > 0 && start > 0 && content !== this.#strip.content) return "Strip of several characters";
    if (start > 0) this.#strip = { content, count: count + start };
    return null;
  }
}

const spaceBefore: TokenStep = (token, opens) => (opens ? token : ` ${token}`);

type TextStep = Extract<Step, { type: "Replace" | "Strip" | "Metaspace" | "WordPiece" }>;

function tokenStep(step: TextStep, library: LibraryStep): TokenStep {
  switch (step.type) {
    case "Replace": {
      if ("Regex" in step.pattern) return library(step);
      const { String: pattern } = step.pattern;
      return (token) => token.replaceAll(pattern, () => step.content);
    }
    case "Strip":
      return (token) => {
        let rest = token;
        for (let i = 0; i < step.start && rest.startsWith(step.content); i++) rest = rest.slice(step.content.length);
        return rest;
      };
    case "Metaspace": {
      const dropped = step.prepend_scheme !== "never" && step.add_prefix_space !== false;
      return (token, opens) => token.replaceAll(step.replacement, opens && dropped ? "" : " ");
    }
    case "WordPiece":
      return (token, opens) => {
        const continues = token.startsWith(step.prefix);
        const text = opens ? token : continues ? token.slice(step.prefix.length) : ` ${token}`;
        return step.cleanup ? cleanUp(text) : text;
      };
  }
}

/** In the library's order, which matters. */
const CLEANED: readonly (readonly [string, string])[] = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" do not", " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];
const cleanUp = (text: string): string => CLEANED.reduce((cleaned, [from, to]) => cleaned.replaceAll(from, to), text);

/** As Rust's u8::from_str_radix reads two characters, which takes a sign for the first. */
function fallbackByte(token: string): number | null {
  const digits = /^<0x([0-9A-Fa-f+][0-9A-Fa-f])>$/.exec(token)?.[1];
  return digits === undefined ? null : Number.parseInt(digits, 16);
}

/** GPT-2's alphabet: every byte has a printable character; those that have none of their own are moved up by 256. */
const BYTE_OF_CHARACTER = new Map<string, number>();
for (let byte = 0, moved = 256; byte < 256; byte++) {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  BYTE_OF_CHARACTER.set(String.fromCharCode(printable ? byte : moved++), byte);
}

/** A token outside of the alphabet stands for its own UTF-8. */
function byteLevelBytes(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTE_OF_CHARACTER.get(character);
    if (byte === undefined) return utf8.encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function flat(spec: unknown): unknown[] {
  if (spec === null || spec === undefined) return [];
  const sequence = Sequence.safeParse(spec);
  return sequence.success ? sequence.data.decoders.flatMap(flat) : [spec];
}

function describe(spec: unknown): string {
  const named = z.object({ type: z.string(), decoders: z.array(z.unknown()).optional() }).safeParse(spec);
  if (!named.success) return "without a type";
  const { type, decoders } = named.data;
  return decoders ? `${type} of ${decoders.map(describe).join(", ")}` : type;
}

const problems = (error: z.ZodError): string =>
  error.issues.map(({ path, message }) => [...path, message].join(" ")).join("; ");
