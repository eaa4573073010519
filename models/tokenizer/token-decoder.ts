import { z } from "zod";

/** How entries of a vocabulary become bytes. */
export interface TokenDecoder {
  /** Bytes of an ordinary token. */
  bytes(token: string): Uint8Array;
  /** Bytes of an added token. */
  added(content: string): Uint8Array;
  /** Spaces that a text loses at its start. */
  readonly strip: number;
}

const Step = z.discriminatedUnion("type", [
  z.object({ type: z.literal("ByteLevel") }),
  z.object({ type: z.literal("Replace"), pattern: z.object({ String: z.string() }), content: z.string() }),
  z.object({ type: z.literal("ByteFallback") }),
  z.object({ type: z.literal("Fuse") }),
  z.object({ type: z.literal("Strip"), content: z.literal(" "), start: z.int().nonnegative(), stop: z.literal(0) }),
]);
const Steps = z.union([
  z.object({ type: z.literal("Sequence"), decoders: z.array(Step) }).transform((sequence) => sequence.decoders),
  Step.transform((step) => [step]),
]);

const utf8 = new TextEncoder();

/**
 * Reads the `decoder` of a tokenizer.json: ByteLevel (GPT-2's byte alphabet), or the SentencePiece chain of Replace,
 * ByteFallback, Fuse and Strip at the start.
 * @throws Error with a sentence that names the kind, for every other decoder.
 */
export function tokenDecoder(spec: unknown): TokenDecoder {
  const parsed = Steps.safeParse(spec);
  const kinds = parsed.success ? parsed.data.map((step) => step.type) : [];
  const byteLevel = kinds.includes("ByteLevel");
  const fusedAt = kinds.indexOf("Fuse");
  const stripAt = kinds.indexOf("Strip");
  const readable = byteLevel
    ? kinds.every((kind) => kind === "ByteLevel" || kind === "Fuse")
    : kinds.length > 0 && (stripAt < 0 || (fusedAt >= 0 && fusedAt < stripAt && stripAt === kinds.length - 1));
  if (!parsed.success || !readable) {
    throw new Error(
      `its decoder (${describe(spec)}) is not supported; ByteLevel is, and a Sequence of Replace, ByteFallback, Fuse and Strip at the start`,
    );
  }
  if (byteLevel) return { bytes: byteLevelBytes, added: (content) => utf8.encode(content), strip: 0 };

  const fallback = kinds.includes("ByteFallback");
  const replacements = parsed.data.flatMap((step) => (step.type === "Replace" ? [step] : []));
  const bytes = (token: string) => {
    const byte = fallback ? /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1] : undefined;
    if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    return utf8.encode(
      replacements.reduce((text, { pattern, content }) => text.replaceAll(pattern.String, content), token),
    );
  };
  const strip = parsed.data.reduce((sum, step) => sum + (step.type === "Strip" ? step.start : 0), 0);
  return { bytes, added: bytes, strip };
}

/** GPT-2's alphabet: every byte has a printable character; those that have none of their own are moved up by 256. */
const BYTE_OF_CHARACTER = new Map<string, number>();
for (let byte = 0, moved = 256; byte < 256; byte++) {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  BYTE_OF_CHARACTER.set(String.fromCharCode(printable ? byte : moved++), byte);
}

/** A token outside of the alphabet stands for its own UTF-8, as in the `tokenizers` library. */
function byteLevelBytes(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTE_OF_CHARACTER.get(character);
    if (byte === undefined) return utf8.encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function describe(spec: unknown): string {
  const named = z.object({ type: z.string(), decoders: z.array(z.unknown()).optional() }).safeParse(spec);
  if (!named.success) return spec === null || spec === undefined ? "none" : "without a type";
  const { type, decoders } = named.data;
  return decoders ? `${type} of ${decoders.map(describe).join(", ")}` : type;
}
