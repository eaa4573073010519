import { stripSpaces, type TokenBytes, unnamedToken } from "../models/tokenizer/token-bytes.js";

/** Where a text stands between two tokens, as plain data. */
export interface DetokenizerState {
  /** Bytes that may still become a character (at most 3). */
  readonly pending: readonly number[];
  /** Spaces that the next text still loses, where it is the start of a text (`TokenBytesData.strip`); 0 for a continuation. */
  readonly strip: number;
}

/** Of a text that goes on: it keeps its first space. */
export const CONTINUATION: DetokenizerState = { pending: [], strip: 0 };
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Turns tokens into text as they come. A character is given out with its last byte; bytes that cannot be one become U+FFFD
 * as soon as that is certain. All pieces together are what `TokenBytes.decode` makes of all ids.
 */
export class Detokenizer {
  #pending: Uint8Array;
  #strip: number;

  /**
   * @param tokens null where the model has no tokenizer: then all text is ""
   * @param state where to go on; left out: the tokens continue a text, which keeps its first space
   * @param special whether special tokens have text
   */
  constructor(
    private readonly tokens: TokenBytes | null,
    state: DetokenizerState = CONTINUATION,
    private readonly special: "skip" | "keep" = "skip",
  ) {
    this.#pending = Uint8Array.from(state.pending);
    this.#strip = state.strip;
  }

  /** Text that this token decides; "" for special tokens that are skipped. */
  push(id: number): string {
    if (!this.tokens || (this.special === "skip" && this.tokens.isSpecial(id))) return "";
    let bytes = this.tokens.bytes(id);
    if (this.#strip > 0) ({ bytes, left: this.#strip } = stripSpaces(bytes, this.#strip));
    const joined = new Uint8Array(this.#pending.length + bytes.length);
    joined.set(this.#pending);
    joined.set(bytes, this.#pending.length);
    const decided = joined.length - undecidedBytes(joined);
    this.#pending = joined.slice(decided);
    return lenient.decode(joined.subarray(0, decided));
  }

  /** Text of what never became a character; the text ends here. */
  flush(): string {
    const text = lenient.decode(this.#pending);
    this.#pending = new Uint8Array();
    return text;
  }

  state(): DetokenizerState {
    return { pending: [...this.#pending], strip: this.#strip };
  }
}

/** Text of one token alone, for lists of tokens: see `TokenBytes.text`; "token_id:N" without a tokenizer. */
export const tokenText = (tokens: TokenBytes | null, id: number): string => tokens?.text(id) ?? unnamedToken(id);

/** How many bytes at the end are the beginning of a character that more bytes may complete (Unicode 15, table 3-7). */
function undecidedBytes(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const lead = bytes[bytes.length - back]!;
    if ((lead & 0xc0) === 0x80) continue;
    if (characterLength(lead) <= back) return 0;
    return back === 1 || mayFollow(lead, bytes[bytes.length - back + 1]!) ? back : 0;
  }
  return 0;
}

function characterLength(lead: number): number {
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  return lead >= 0xf0 && lead <= 0xf4 ? 4 : 1;
}

/** Second bytes are restricted behind four leads: no overlong forms, no surrogates, nothing above U+10FFFF. */
function mayFollow(lead: number, second: number): boolean {
  if (lead === 0xe0) return second >= 0xa0;
  if (lead === 0xed) return second <= 0x9f;
  if (lead === 0xf0) return second >= 0x90;
  return lead !== 0xf4 || second <= 0x8f;
}
