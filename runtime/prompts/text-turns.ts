import type { Tokenizer } from "../../models/tokenizer/tokenizer.js";
import { UnencodableText } from "../../models/tokenizer/unencodable-text.js";
import type { Watch } from "./watch.js";

/** UTF-16 units of a piece: some 30 ms of work, and 10 MB of the library's memory. */
const PIECE_LENGTH = 1 << 16;
/** A text that cannot be cut may have so many: the library takes 150 bytes for each of its characters. */
const LONGEST_PIECE = 1 << 23;

/**
 * Encodes several texts at a time. The library has four threads: short texts go to it as they come, long ones piece by piece
 * in turns, one piece at a time, so that a short text finds a free thread whatever long ones there are.
 */
export class TextTurns {
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly watch: Watch,
  ) {}

  /** @throws UnencodableText as `Tokenizer.encode`, and where a text that cannot be cut is too long. */
  async encode(text: string): Promise<Int32Array<ArrayBuffer>> {
    if (text.length <= PIECE_LENGTH) return this.#encode(text);
    const ids: Int32Array[] = [];
    for (const piece of this.tokenizer.pieces(text, PIECE_LENGTH)) {
      if (piece.length > LONGEST_PIECE)
        throw new UnencodableText(
          `has more than ${LONGEST_PIECE} characters, and this tokenizer cannot take it in parts`,
        );
      ids.push(await this.#inTurn(() => this.#encode(piece)));
    }
    return joined(ids);
  }

  #encode(text: string): Promise<Int32Array<ArrayBuffer>> {
    return this.watch.over(text.length, () => this.tokenizer.encode(text));
  }

  /** Turns are taken in the order in which they are asked for, and a text asks for its next one when it has had one. */
  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(act);
    this.#turn = done.catch(() => {});
    return done;
  }
}

function joined(parts: readonly Int32Array[]): Int32Array<ArrayBuffer> {
  const ids = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    ids.set(part, at);
    at += part.length;
  }
  return ids;
}
