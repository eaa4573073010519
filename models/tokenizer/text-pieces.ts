import type { TokenBytes } from "./token-bytes.js";

/** Finds the places where a text may be cut so that encoding the parts gives the ids of the whole; null: nowhere. */
export type CutPattern = RegExp | null;

/** What decides, beside the vocabulary, whether a tokenizer's text can be cut. */
export interface CutRules {
  /** Texts of the added tokens; `rstrip`: the token swallows white space behind it. */
  readonly added: readonly { readonly content: string; readonly rstrip: boolean }[];
  /** Neighbouring unknown tokens become one, so that a cut between them would make two. */
  readonly fusesUnknown: boolean;
}

const AFTER_ANY_LETTER = /\p{L}(?=[ \n])/gu;
const AFTER_ASCII_LETTER = /[A-Za-z](?=[ \n])/g;
const LETTER_THEN_SPACE = /[\p{L}\uFFFD][\t-\r ]/u;
const lenient = new TextDecoder();

/** Has every kind of cut, and what shows a tokenizer that looks across them (prefix spaces, stripping, multi-word tokens). */
const PROBE =
  "The old man sat down by the fire and\n\nsang: don't you know the way  home\n \nto the sea\tor the 12 hills, café noir x_y the\n";

/**
 * Cuts are made behind a letter and before a space or newline. That is safe where
 * 1. no token holds a letter followed by white space: then no merge reaches across the cut, and the model treats both sides
 *    independently whatever the pre-tokenizer does;
 * 2. nothing else looks across it. Pre-tokenizer patterns match from left to right, have no look-behind, and see end of text
 *    like white space at their only look-ahead, (?!\S). What is prepended to or stripped off every text (SentencePiece)
 *    shows in a probe text.
 */
export function cutPattern(tokens: TokenBytes, rules: CutRules, encode: (text: string) => number[]): CutPattern {
  if (rules.fusesUnknown) return null;
  if (rules.added.some(({ content, rstrip }) => rstrip && /\p{L}$/u.test(content))) return null;
  const joined = joinedByTokens(tokens);
  if (joined.ascii) return null;
  const pattern = joined.any ? AFTER_ASCII_LETTER : AFTER_ANY_LETTER;
  const parts = [...textPieces(PROBE, 1, pattern)];
  const same = parts.flatMap(encode).join() === encode(PROBE).join();
  return same && parts.length > 1 ? pattern : null;
}

/** The text in pieces of `length` UTF-16 units and as many more as it takes to the next safe cut. */
export function* textPieces(text: string, length: number, pattern: CutPattern): Generator<string> {
  let start = 0;
  while (pattern && text.length - start > length) {
    pattern.lastIndex = start + length - 1;
    const letter = pattern.exec(text);
    if (!letter) break;
    const end = letter.index + letter[0].length;
    yield text.slice(start, end);
    start = end;
  }
  if (start < text.length) yield text.slice(start);
}

/** Whether any token holds a letter followed by white space; bytes that are half a character count as a letter. */
function joinedByTokens(tokens: TokenBytes): { ascii: boolean; any: boolean } {
  const { bytes, offsets } = tokens.data;
  let any = false;
  for (let id = 0; id + 1 < offsets.length; id++) {
    const end = offsets[id + 1]!;
    for (let at = offsets[id]! + 1; at < end; at++) {
      const byte = bytes[at]!;
      if (byte !== 0x20 && (byte < 0x09 || byte > 0x0d)) continue;
      const before = bytes[at - 1]!;
      const letter = before | 0x20;
      if (letter >= 0x61 && letter <= 0x7a) return { ascii: true, any: true };
      if (before >= 0x80) any ||= LETTER_THEN_SPACE.test(lenient.decode(tokens.bytes(id).slice()));
    }
  }
  return { ascii: false, any };
}
