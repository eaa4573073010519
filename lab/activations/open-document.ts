import { InvalidRequest, SetupError } from "../../runtime/contract/errors.js";
import type { Encoder } from "../../runtime/prompts/encoder.js";
import { paragraphStarts } from "./paragraphs.js";
import type { TextDocuments } from "./text-documents.js";

interface Encoded {
  readonly ids: Int32Array<ArrayBuffer>;
  /** Where paragraphs begin. */
  readonly starts: readonly number[];
}

/** A document that is cut into pieces of so many tokens. */
export class OpenDocument {
  /** Where the next piece may begin, and how many there were before. */
  at: number;
  contexts: number;
  #encoded: Promise<Encoded> | undefined;

  constructor(
    readonly index: number,
    readonly documents: TextDocuments,
    readonly encoder: Encoder,
    readonly tokens: number,
    from: { readonly at: number; readonly contexts: number },
  ) {
    this.at = from.at;
    this.contexts = from.contexts;
  }

  /** Begins to encode the document, if nobody has. */
  encode(): Promise<Encoded> {
    this.#encoded ??= this.#encode();
    this.#encoded.catch(() => {}); // whoever reads it hears of it
    return this.#encoded;
  }

  /** The next piece that is asked for by its number; null: there is none. */
  async next(wanted: (number: number) => boolean): Promise<{ ids: Int32Array; at: number } | null> {
    const { ids, starts } = await this.encode();
    for (;;) {
      const at = this.#begin(starts, ids.length);
      if (at === null) return null;
      this.at = at + this.tokens;
      if (wanted(this.contexts++)) return { ids: ids.subarray(at, this.at), at };
    }
  }

  #begin(starts: readonly number[], length: number): number | null {
    const { at, tokens } = this;
    const paragraph = starts[firstFrom(starts, at)] ?? length;
    if (paragraph <= at + tokens / 2 && paragraph + tokens <= length) return paragraph;
    return at + tokens <= length ? at : null;
  }

  async #encode(): Promise<Encoded> {
    try {
      const ids = await this.encoder.encode(this.documents.read(this.index), "text");
      return { ids, starts: paragraphStarts(ids, this.encoder.tokens) };
    } catch (error) {
      if (!(error instanceof InvalidRequest)) throw error;
      throw new SetupError(`${this.documents.name(this.index)}: ${error.message}`);
    }
  }
}

/** Index of the first of ascending numbers that is not below `least`. */
function firstFrom(numbers: readonly number[], least: number): number {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((numbers[middle] ?? 0) < least) low = middle + 1;
    else high = middle;
  }
  return low;
}
