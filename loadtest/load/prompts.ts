const CHAT =
  "Please tell me a story about the king of a small country by the sea, and what his three daughters did when";
const NAMES = ["Ann", "Tom", "Mary", "John", "Kate", "Ned", "Rose", "Will"];
const PLACES = ["mill", "forest", "harbour", "castle", "garden", "village", "river", "market"];
const SENTENCE_WORDS = 16;

/** A question as people type it into a chat. No two are alike, so no server can answer from a cache of prefixes. */
export const chatPrompt = (turn: number): string => `(${turn}) ${CHAT} ${nameOf(turn)} came.`;

/** About so many words of plain English; no two begin alike. */
export function longPrompt(turn: number, words: number): string {
  const sentences = Array.from({ length: Math.ceil(words / SENTENCE_WORDS) }, (_, i) => {
    const [place, other] = [placeOf(turn + i), placeOf(turn + 3 * i + 1)];
    return `On day ${turn + i + 1} ${nameOf(i)} went from the ${place} to the ${other}, and there met ${nameOf(i + turn + 1)}.`;
  });
  return `(${turn}) ${sentences.join(" ")}`;
}

const nameOf = (i: number): string => NAMES[i % NAMES.length] ?? "";
const placeOf = (i: number): string => PLACES[i % PLACES.length] ?? "";
