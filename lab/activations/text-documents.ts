import { createHash, type Hash } from "node:crypto";
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { basename, extname } from "node:path";
import { z } from "zod";
import { SetupError } from "../../runtime/contract/errors.js";
import { textFiles } from "./text-files.js";
import { jsonOf, type TextLine, textLines } from "./text-lines.js";

/** A line of this alone stands between the documents of a .txt file. */
const SEPARATOR = "<|endoftext|>";
/** Bytes after which a document of a .txt file ends before the next paragraph, and the rest of it is another. */
const SECTION_BYTES = 1 << 16;
/** The same before the next line, where no paragraph begins for so long. */
const LONGEST_SECTION_BYTES = 4 * SECTION_BYTES;

const Line = z.object({ text: z.string() });
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Bytes [start, end) of a file. */
interface Place {
  readonly file: string;
  readonly start: number;
  readonly end: number;
}

/**
 * The documents of text files, in order. A .txt file is one document, or several with lines of `<|endoftext|>` between
 * them; a long one counts as several, cut before paragraphs, so that a document is some 64 KiB. A .jsonl file has one
 * document in each line, in the field `text`. Documents of white space are left out. Only their places are kept in memory.
 */
export class TextDocuments {
  private constructor(
    /** sha256 (hex) over the files' lengths and bytes, in order. */
    readonly hash: string,
    private readonly places: readonly Place[],
  ) {}

  /**
   * Finds the documents of files and folders, and reads all of it once.
   * @throws SetupError naming the file that is missing, unreadable, not text, or has no document.
   */
  static open(paths: readonly string[]): TextDocuments {
    const hash = createHash("sha256");
    const places: Place[] = [];
    for (const file of textFiles(paths)) {
      const before = places.length;
      for (const place of placesIn(file, hash)) places.push({ file, ...place });
      if (places.length === before) throw new SetupError(`${file} has no document: there is nothing but white space`);
    }
    return new TextDocuments(hash.digest("hex"), places);
  }

  get count(): number {
    return this.places.length;
  }

  /** Where a document stands, for a reader: the file's name, and its byte where there are several. */
  name(index: number): string {
    const { file, start } = this.#place(index);
    return start === 0 ? basename(file) : `${basename(file)}, byte ${start}`;
  }

  /** The text of a document, without white space around it. @throws SetupError where the file is another by now. */
  read(index: number): string {
    const { file, start, end } = this.#place(index);
    const bytes = bytesOf(file, start, end);
    const changed = () => new SetupError(`${file} has changed since it was first read`);
    if (bytes.length < end - start) throw changed();
    const text = new TextDecoder().decode(bytes); // without a byte order mark
    if (extname(file) === ".txt") return text.trim();
    const parsed = Line.safeParse(jsonOf(text));
    if (!parsed.success) throw changed();
    return parsed.data.text.trim();
  }

  #place(index: number): Place {
    const place = this.places[index];
    if (place === undefined) throw new RangeError(`there is no document ${index}`);
    return place;
  }
}

function placesIn(file: string, hash: Hash): Iterable<Omit<Place, "file">> {
  hash.update(`${statSync(file).size}:`);
  const lines = textLines(file, (block) => hash.update(block));
  return extname(file) === ".jsonl" ? jsonPlaces(file, lines) : sectionPlaces(lines);
}

function* sectionPlaces(lines: Iterable<TextLine>): Generator<Omit<Place, "file">> {
  let [start, end] = [0, 0];
  let filled = false;
  let afterBlank = false;
  for (const line of lines) {
    const blank = isBlank(line.bytes);
    const size = line.start - start;
    const separator = !blank && line.bytes.length < 32 && textOf(line).trim() === SEPARATOR;
    const long = (size >= SECTION_BYTES && afterBlank && !blank) || size >= LONGEST_SECTION_BYTES;
    if (separator || long) {
      if (filled) yield { start, end: line.start };
      start = separator ? line.start + line.bytes.length + 1 : line.start;
      filled = false;
    }
    filled ||= !blank && !separator;
    afterBlank = blank;
    end = line.start + line.bytes.length;
  }
  if (filled) yield { start, end };
}

function* jsonPlaces(file: string, lines: Iterable<TextLine>): Generator<Omit<Place, "file">> {
  for (const line of lines) {
    if (isBlank(line.bytes)) continue;
    const { data } = Line.safeParse(jsonOf(textOf(line)));
    if (data === undefined)
      throw new SetupError(`line ${line.number} of ${file} is not a JSON object with a "text" that is a string`);
    if (LONE_SURROGATE.test(data.text))
      throw new SetupError(`line ${line.number} of ${file} holds half of a surrogate pair, which is no character`);
    if (data.text.trim() !== "") yield { start: line.start, end: line.start + line.bytes.length };
  }
}

function bytesOf(file: string, start: number, end: number): Uint8Array {
  try {
    const fd = openSync(file, "r");
    try {
      const bytes = new Uint8Array(end - start);
      return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, start));
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new SetupError(`${file} cannot be read any more: ${error instanceof Error ? error.message : error}`);
  }
}

const textOf = ({ bytes }: TextLine): string => new TextDecoder().decode(bytes);

/** Of ASCII white space only. */
const isBlank = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 32 || (byte >= 9 && byte <= 13));
