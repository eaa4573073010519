import { basename } from "node:path";
import { fingerprint, readDocuments } from "../documents.js";

/** What keys are hidden in. */
export interface Filler {
  readonly name: string;
  /** Follow each other, the first behind the last again. */
  readonly pieces: readonly string[];
}

/** The authors' wording (LM-Infinite, arXiv 2308.16137; their passkey script), exactly: the same piece over and over. */
export const AUTHORS_FILLER: Filler = {
  name: "the authors' sentences",
  pieces: ["The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."],
};

/** Characters of a book's piece at least (about as many as the authors' has), and after which a sentence is cut. */
const [PIECE, LONGEST] = [80, 160];

/**
 * The sentences of a text file, or of a folder of them; short ones together and long ones cut, so that pieces are of about
 * one length.
 * @throws Error that names the path
 */
export function readFiller(path: string): Filler {
  const documents = readDocuments([path], "filler");
  return {
    name: `${basename(path)} (${fingerprint(documents)})`,
    pieces: documents.flatMap(({ text }) => piecesOf(text)),
  };
}

export function piecesOf(text: string): string[] {
  const pieces: string[] = [];
  let piece = "";
  for (const word of text.trim().split(/\s+/)) {
    piece = piece === "" ? word : `${piece} ${word}`;
    const endsSentence = /[.!?]["')]*$/.test(word);
    if (piece.length < (endsSentence ? PIECE : LONGEST)) continue;
    pieces.push(piece);
    piece = "";
  }
  return piece === "" ? pieces : [...pieces, piece];
}

/** So many pieces behind each other; `start` chooses the first. */
export const fillerText = ({ pieces }: Filler, start: number, count: number): string[] =>
  Array.from({ length: count }, (_, i) => pieces[(start + i) % pieces.length] ?? "");
