import { isUtf8 } from "node:buffer";

/** The bytes of all tokens, one after another. */
export interface TokenTable {
  readonly bytes: Uint8Array;
  /** Token `id` is `bytes[offsets[id]..offsets[id + 1])`. [ids + 1] */
  readonly offsets: Uint32Array;
}

/** What `TokenBytes` is made of: flat arrays, so that threads can share one copy. */
export interface TokenBytesData extends TokenTable {
  /** Bits of `TokenFlag`. [ids] */
  readonly flags: Uint8Array;
  /** The tokens as they are where they open a text; null where that makes no difference. */
  readonly opening: TokenTable | null;
  /** Whether characters without a token are spelled in bytes (`TokenFlag.byte`). Otherwise any token may be part of a character. */
  readonly spelled: boolean;
  /** What a text loses at its start: up to `count` times this character. */
  readonly strip: { readonly content: string; readonly count: number };
}

/** `special`: text leaves it out. `byte`: one byte of a character. `spaced`: a space stands between it and the next token. */
export const TokenFlag = { present: 1, special: 2, byte: 4, spaced: 8 } as const;

/** One token of a vocabulary. */
export interface TokenEntry {
  readonly bytes: Uint8Array;
  /** Left out: the same as `bytes`. */
  readonly opening?: Uint8Array;
  /** Bits of `TokenFlag` beside `present`. */
  readonly flags: number;
}

const SPACE = 0x20;
const REPLACEMENT = Uint8Array.of(0xef, 0xbf, 0xbd);
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });
const strict = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

/** The bytes that every token of a vocabulary stands for. Send `data` to another thread and wrap it there again. */
export class TokenBytes {
  constructor(readonly data: TokenBytesData) {}

  /** Bytes of a token behind others, or of one that opens a text; none for an id without an entry. A view: not to be written. */
  bytes(id: number, opens = false): Uint8Array {
    const { bytes, offsets } = (opens ? this.data.opening : null) ?? this.data;
    return bytes.subarray(offsets[id] ?? 0, offsets[id + 1] ?? 0);
  }

  has(id: number, flag: keyof typeof TokenFlag): boolean {
    return ((this.data.flags[id] ?? 0) & TokenFlag[flag]) !== 0;
  }

  /** Special tokens (end of text, roles) have bytes, but are left out of text. */
  isSpecial(id: number): boolean {
    return this.has(id, "special");
  }

  /**
   * Text of all ids together, special tokens left out unless they are asked for, as the `tokenizers` library decodes them.
   * Bytes that are no UTF-8 become U+FFFD: one per maximal subpart (Unicode 15, section 3.9) where tokens are bytes, and one
   * for every byte of a run where characters without a token are spelled in bytes.
   */
  decode(ids: ArrayLike<number>, special: "skip" | "keep" = "skip"): string {
    const kept = new Int32Array(ids).filter(
      (id) => this.has(id, "present") && (special === "keep" || !this.isSpecial(id)),
    );
    return stripStart(lenient.decode(this.#join(kept)), this.data.strip, this.data.strip.count).text;
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

  /** Copies byte by byte: a view of each token takes four times as long, and whoever echoes a long prompt waits. */
  #join(ids: Int32Array): Uint8Array {
    const { flags, opening } = this.data;
    const joined = new Uint8Array(
      ids.reduce((sum, id) => sum + this.#roomOf(id), this.bytes(ids[0] ?? 0, true).length),
    );
    let at = 0;
    let run = -1;
    ids.forEach((id, i) => {
      const flag = flags[id] ?? 0;
      const isByte = (flag & TokenFlag.byte) !== 0;
      if (isByte && run < 0) run = at;
      if (!isByte && run >= 0) {
        at = replaceBroken(joined, run, at);
        run = -1;
      }
      const { bytes, offsets } = (i === 0 ? opening : null) ?? this.data;
      const end = offsets[id + 1] ?? 0;
      for (let from = offsets[id] ?? 0; from < end; from++) joined[at++] = bytes[from] ?? 0;
      if (flag & TokenFlag.spaced && i < ids.length - 1) joined[at++] = SPACE;
    });
    if (run >= 0) at = replaceBroken(joined, run, at);
    return joined.subarray(0, at);
  }

  #roomOf(id: number): number {
    const { offsets, flags } = this.data;
    const flag = flags[id] ?? 0;
    if (flag & TokenFlag.byte) return REPLACEMENT.length;
    return (offsets[id + 1] ?? 0) - (offsets[id] ?? 0) + (flag & TokenFlag.spaced ? 1 : 0);
  }
}

/** A run of bytes that is no UTF-8 as a whole: every byte of it becomes U+FFFD. Gives the new end of `joined`. */
function replaceBroken(joined: Uint8Array, start: number, end: number): number {
  if (isUtf8(joined.subarray(start, end))) return end;
  for (let i = 0; i < end - start; i++) joined.set(REPLACEMENT, start + REPLACEMENT.length * i);
  return start + REPLACEMENT.length * (end - start);
}

/** How a token is called where there is no tokenizer, or no entry in it (vLLM's spelling). */
export const unnamedToken = (id: number): string => `token_id:${id}`;

/** Takes what is stripped off the beginning of a text, `count` times at most; `left`: how often the next piece still loses it. */
export function stripStart(
  text: string,
  { content }: TokenBytesData["strip"],
  count: number,
): { text: string; left: number } {
  let rest = text;
  let left = count;
  while (left > 0 && rest.startsWith(content)) {
    rest = rest.slice(content.length);
    left--;
  }
  return { text: rest, left: rest === "" ? left : 0 };
}

/** What a vocabulary is beside its tokens. */
export type TextRules = Pick<TokenBytesData, "spelled" | "strip">;

/** Lays the bytes of all tokens out flat. `tokens[id]` is undefined for ids without an entry. */
export function packTokenBytes(tokens: readonly (TokenEntry | undefined)[], rules: TextRules): TokenBytes {
  const flags = Uint8Array.from(tokens, (token) => (token ? TokenFlag.present | token.flags : 0));
  const opening = tokens.some((token) => token?.opening)
    ? pack(tokens.map((token) => token?.opening ?? token?.bytes))
    : null;
  return new TokenBytes({ ...pack(tokens.map((token) => token?.bytes)), flags, opening, ...rules });
}

function pack(tokens: readonly (Uint8Array | undefined)[]): TokenTable {
  const bytes = new Uint8Array(tokens.reduce((sum, token) => sum + (token?.length ?? 0), 0));
  const offsets = new Uint32Array(tokens.length + 1);
  let at = 0;
  for (const [id, token] of tokens.entries()) {
    if (token) bytes.set(token, at);
    at += token?.length ?? 0;
    offsets[id + 1] = at;
  }
  return { bytes, offsets };
}

/** The same on memory that threads share. */
export function onSharedMemory(data: TokenBytesData): TokenBytesData {
  const table = ({ bytes, offsets }: TokenTable) => ({ bytes: shared(bytes), offsets: shared(offsets) });
  const opening = data.opening && table(data.opening);
  return { ...data, ...table(data), flags: shared(data.flags), opening };
}

function shared<T extends Uint8Array | Uint32Array>(array: T): T;
function shared(array: Uint8Array | Uint32Array): Uint8Array | Uint32Array {
  const memory = new SharedArrayBuffer(array.byteLength);
  const copy = array instanceof Uint8Array ? new Uint8Array(memory) : new Uint32Array(memory);
  copy.set(array);
  return copy;
}
