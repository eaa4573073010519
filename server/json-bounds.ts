import { partCounter } from "./part-counter.js";

/** @throws RangeError where the JSON text (UTF-8) has too many arrays and members, or has them too deep. */
export function checkJsonBounds(text: Uint8Array): void {
  const count = partCounter();
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case 0x22: // "
        at = endOfString(text, at);
        break;
      case 0x5b: // [
      case 0x7b: // {
        count(1, ++depth);
        break;
      case 0x5d: // ]
      case 0x7d: // }
        depth--;
        break;
      case 0x3a: // :
        count(1, depth);
    }
  }
}

/** Where the closing quote of the string is that begins at `start`. */
function endOfString(text: Uint8Array, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === 0x5c)
      at++; // \ and what it escapes
    else if (text[at] === 0x22) return at;
  }
  return text.length;
}
