import type { JsonText } from "../models/chat/chat-template.js";

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPENING = [0x5b, 0x7b];
const CLOSING = [0x5d, 0x7d];

/**
 * The members of an object, each value in the words in which it was sent: `JSON.parse` changes numbers that have no
 * double, 1.0 to 1, and the order of members that are named by numbers. Of members with one name the last counts.
 * @param object JSON text, which has been parsed already; none of another value.
 */
export function memberTexts(object: JsonText): Map<string, JsonText> {
  const members = new Map<string, JsonText>();
  let depth = 0;
  let name: string | null = null;
  let valueStart = 0;
  const close = (end: number) => {
    if (name !== null) members.set(name, object.slice(valueStart, end).trim());
    name = null;
  };
  for (let at = 0; at < object.length; at++) {
    const character = object.charCodeAt(at);
    if (character === QUOTE) {
      const end = endOfString(object, at);
      if (depth === 1 && name === null) name = JSON.parse(object.slice(at, end + 1));
      at = end;
    } else if (OPENING.includes(character)) depth++;
    else if (CLOSING.includes(character)) {
      if (--depth === 0) close(at);
    } else if (depth === 1 && character === COLON) valueStart = at + 1;
    else if (depth === 1 && character === COMMA) close(at);
  }
  return members;
}

/** Where the closing quote of the string is that begins at `start`. */
function endOfString(text: JsonText, start: number): number {
  for (let at = start + 1; ; at++) {
    at = text.indexOf('"', at);
    let first = at;
    while (text.charCodeAt(first - 1) === BACKSLASH) first--;
    if ((at - first) % 2 === 0) return at;
  }
}
