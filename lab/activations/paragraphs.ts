import type { TokenBytes } from "../../models/tokenizer/token-bytes.js";

const NEWLINE = 0x0a;
const isSpace = (byte: number): boolean => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);

/** Places of tokens that begin a paragraph, ascending: the first of the text, and those behind an empty line. */
export function paragraphStarts(ids: ArrayLike<number>, tokens: TokenBytes): number[] {
  const starts: number[] = [];
  /** Newlines since the last character that is no white space. */
  let newlines = 2;
  for (let i = 0; i < ids.length; i++) {
    const bytes = tokens.bytes(ids[i] ?? 0);
    if (newlines >= 2 && bytes[0] !== NEWLINE && !bytes.every(isSpace)) starts.push(i);
    for (const byte of bytes) {
      if (byte === NEWLINE) newlines++;
      else if (!isSpace(byte)) newlines = 0;
    }
  }
  return starts;
}
