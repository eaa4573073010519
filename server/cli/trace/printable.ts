/** What could drive a terminal or hide from the reader: controls, bidi and other format characters, lone surrogates. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const LINE_BREAK = "\n";
const SIGNS: Readonly<Record<string, string>> = { [LINE_BREAK]: "↵", "\t": "⇥", " ": "␣" };

/** The text with unprintable characters spelled (`\x1b`, `\u{202e}`) and line breaks as ↵. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => SIGNS[character] ?? spelled(character));
}

/** As `printable`, with every kind of space visible too. */
export function visible(text: string): string {
  return printable(text).replace(/\p{Zs}/gu, (space) => SIGNS[space] ?? spelled(space));
}

/** JSON on one line that is safe on a terminal: the same value, with unprintable characters as escapes of JSON. */
export function jsonLine(value: object): string {
  const units = (character: string) =>
    Array.from({ length: character.length }, (_, i) => `\\u${hex(character.charCodeAt(i), 4)}`).join("");
  return `${JSON.stringify(value).replace(UNPRINTABLE, units)}\n`;
}

/** The text in so many columns of a terminal: padded on the right, or cut with an ellipsis. */
export function cell(text: string, columns: number): string {
  const width = columnsOf(text);
  if (width <= columns) return text + " ".repeat(columns - width);
  let cut = "";
  for (const character of text) {
    if (columnsOf(cut + character) > columns - 1) break;
    cut += character;
  }
  return `${cut}…${" ".repeat(columns - 1 - columnsOf(cut))}`;
}

const WIDE =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]/u;

/** Columns that a terminal takes for it; approximate, for want of Unicode's East_Asian_Width in regular expressions. */
export function columnsOf(text: string): number {
  let columns = 0;
  for (const character of text) columns += /\p{M}/u.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
  return columns;
}

function spelled(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x100 ? `\\x${hex(code, 2)}` : `\\u{${hex(code, 4)}}`;
}

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, "0");
}
