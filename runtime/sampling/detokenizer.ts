import { isUtf8 } from "node:buffer";
import { stripStart, type TokenBytes, unnamedToken } from "../../models/tokenizer/token-bytes.js";

/** Where a text stands between two tokens, as plain data. */
export interface DetokenizerState {
  /** Bytes that may still become characters. */
  readonly pending: readonly number[];
  /** How often the next text still loses what is stripped off the start of one; 0 for a continuation. */
  readonly strip: number;
  /** The next token opens a text. */
  readonly opens: boolean;
  /** A space stands before the next token. */
  readonly spaced: boolean;
}

/** The state of a text of which nothing has been said yet. */
export const startOfText = (tokens: TokenBytes): DetokenizerState => ({
  pending: [],
  strip: tokens.data.strip.count,
  opens: true,
  spaced: false,
});

/** The state behind a prompt that ends with `last`: what follows keeps its first space. */
export const behindPrompt = (tokens: TokenBytes | null, last: number): DetokenizerState => ({
  ...CONTINUATION,
  spaced: tokens?.has(last, "spaced") === true,
});

const CONTINUATION: DetokenizerState = { pending: [], strip: 0, opens: false, spaced: false };
/** Bytes of a run that are kept until its end at most: a text must come out, and memory end, even if the run does not. */
const LONGEST_RUN = 64;
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Turns tokens into text as they come, such that all pieces together are what `TokenBytes.decode` makes of all ids. Where
 * any token may be part of a character, one is given out with its last byte, and bytes that cannot be one become U+FFFD as
 * soon as that is certain. Where characters without a token are spelled in bytes, a run of these is text or broken as a
 * whole, so that it is given out when it ends: whole characters of it from 64 bytes on, whatever follows.
 */
export class Detokenizer {
  #pending: Uint8Array;
  #strip: number;
  #opens: boolean;
  #spaced: boolean;

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
    this.#opens = state.opens;
    this.#spaced = state.spaced;
  }

  /** Text that this token decides; "" for special tokens that are skipped, and for ids without an entry. */
  push(id: number): string {
    const { tokens } = this;
    if (!tokens?.has(id, "present") || (this.special === "skip" && tokens.isSpecial(id))) return "";
    const bytes = tokens.bytes(id, this.#opens);
    const space = this.#spaced ? " " : "";
    this.#opens = false;
    this.#spaced = tokens.has(id, "spaced");
    if (tokens.data.spelled && !tokens.has(id, "byte")) return this.#strippedOf(this.#endRun() + lenient.decode(bytes));
    const joined = new Uint8Array(this.#pending.length + bytes.length);
    joined.set(this.#pending);
    joined.set(bytes, this.#pending.length);
    const waits = tokens.data.spelled && joined.length < LONGEST_RUN;
    const decided = waits ? 0 : joined.length - undecidedBytes(joined);
    this.#pending = joined.slice(decided);
    return this.#strippedOf(space + lenient.decode(joined.subarray(0, decided)));
  }

  /** Text of what never became a character; the text ends here. */
  flush(): string {
    const text = this.tokens?.data.spelled ? this.#endRun() : lenient.decode(this.#pending);
    this.#pending = new Uint8Array();
    return this.#strippedOf(text);
  }

  state(): DetokenizerState {
    return { pending: [...this.#pending], strip: this.#strip, opens: this.#opens, spaced: this.#spaced };
  }

  #endRun(): string {
    const run = this.#pending;
    this.#pending = new Uint8Array();
    return isUtf8(run) ? lenient.decode(run) : "\uFFFD".repeat(run.length);
  }

  #strippedOf(text: string): string {
    if (this.#strip === 0 || !this.tokens) return text;
    const stripped = stripStart(text, this.tokens.data.strip, this.#strip);
    this.#strip = stripped.left;
    return stripped.text;
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
