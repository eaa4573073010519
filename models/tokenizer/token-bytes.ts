/** What `TokenBytes` is made of: flat arrays (on shared memory), so that threads see one copy. */
export interface TokenBytesData {
  /** The bytes of all tokens, one after another. */
  readonly bytes: Uint8Array;
  /** Token `id` is `bytes[offsets[id]..offsets[id + 1])`. [ids + 1] */
  readonly offsets: Uint32Array;
  /** 1 where the token is special: text leaves it out. [ids] */
  readonly special: Uint8Array;
  /** Spaces that a text loses at its start (SentencePiece opens every text with one). */
  readonly strip: number;
}

const SPACE = 0x20;
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });
const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

/** The bytes that every token of a vocabulary stands for. Send `data` to another thread and wrap it there again. */
export class TokenBytes {
  constructor(readonly data: TokenBytesData) {}

  /** Bytes of a token; none for an id that the vocabulary does not have. A view: not to be written. */
  bytes(id: number): Uint8Array {
    const { bytes, offsets } = this.data;
    return bytes.subarray(offsets[id] ?? 0, offsets[id + 1] ?? 0);
  }

  /** Special tokens (end of text, roles) have bytes, but are left out of text. */
  isSpecial(id: number): boolean {
    return this.data.special[id] === 1;
  }

  /**
   * Text of all ids together, special tokens left out unless they are asked for. Bytes that are no UTF-8 become U+FFFD,
   * one per maximal subpart (Unicode 15, section 3.9, as the `tokenizers` library does for ByteLevel).
   */
  decode(ids: readonly number[], special: "skip" | "keep" = "skip"): string {
    // Byte by byte: a view of each token takes four times as long, and whoever echoes a long prompt waits.
    const { bytes, offsets, strip } = this.data;
    const isLeftOut = (id: number) => special === "skip" && this.isSpecial(id);
    const endOf = (id: number) => offsets[id + 1] ?? offsets[id] ?? 0;
    let length = 0;
    for (const id of ids) if (!isLeftOut(id)) length += endOf(id) - (offsets[id] ?? 0);
    const joined = new Uint8Array(length);
    let at = 0;
    for (const id of ids) {
      if (isLeftOut(id)) continue;
      const end = endOf(id);
      for (let from = offsets[id] ?? 0; from < end; from++) joined[at++] = bytes[from] ?? 0;
    }
    return lenient.decode(stripSpaces(joined, strip).bytes);
  }

  /** Text of one token alone: `bytes:\xe2\x80` where that is no whole character (as OpenAI does), "token_id:N" for unknown ids. */
  text(id: number): string {
    const bytes = this.bytes(id);
    if (bytes.length === 0) return unnamedToken(id);
    try {
      return strict.decode(bytes.slice());
    } catch {
      return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`;
    }
  }
}

/** How a token is called where there is no tokenizer, or no entry in it (vLLM's spelling). */
export const unnamedToken = (id: number): string => `token_id:${id}`;

/** Takes up to `count` spaces off the beginning of a text; `left` is what may still come off the next piece of it. */
export function stripSpaces(bytes: Uint8Array, count: number): { bytes: Uint8Array; left: number } {
  let spaces = 0;
  while (spaces < count && bytes[spaces] === SPACE) spaces++;
  return { bytes: bytes.subarray(spaces), left: spaces === bytes.length ? count - spaces : 0 };
}

/** Lays the bytes of all tokens out on shared memory. `tokens[id]` is undefined for ids without an entry. */
export function packTokenBytes(
  tokens: readonly (Uint8Array | undefined)[],
  special: ReadonlySet<number>,
  strip: number,
): TokenBytes {
  const total = tokens.reduce((sum, token) => sum + (token?.length ?? 0), 0);
  const bytes = new Uint8Array(new SharedArrayBuffer(total));
  const offsets = new Uint32Array(new SharedArrayBuffer((tokens.length + 1) * Uint32Array.BYTES_PER_ELEMENT));
  const flags = new Uint8Array(new SharedArrayBuffer(tokens.length));
  let at = 0;
  for (const [id, token] of tokens.entries()) {
    if (token) bytes.set(token, at);
    at += token?.length ?? 0;
    offsets[id + 1] = at;
    flags[id] = special.has(id) ? 1 : 0;
  }
  return new TokenBytes({ bytes, offsets, special: flags, strip });
}
