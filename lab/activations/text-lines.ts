import { isUtf8 } from "node:buffer";
import { closeSync, openSync, readSync } from "node:fs";
import { SetupError } from "../../runtime/contract/errors.js";

const BLOCK_BYTES = 1 << 20;
/** A line is held in memory as a whole. */
const LONGEST_LINE = 16 << 20;

export interface TextLine {
  /** Without its end. */
  readonly bytes: Uint8Array;
  /** The file's byte that it begins with. */
  readonly start: number;
  /** Counted from 1. */
  readonly number: number;
}

/**
 * The lines of a file of UTF-8, read in blocks.
 * @param see is given every block, as it lies in the file
 * @throws SetupError naming the file, where it cannot be read, is not text, or has a line of more than 16 MiB.
 */
export function* textLines(file: string, see: (block: Uint8Array) => void): Generator<TextLine> {
  const fd = opened(file);
  try {
    let [start, number] = [0, 1];
    let rest: Buffer = Buffer.alloc(0);
    const line = (bytes: Buffer): TextLine => {
      if (bytes.includes(0) || !isUtf8(bytes)) throw new SetupError(`${file} is not UTF-8 text (line ${number})`);
      return { bytes, start, number };
    };
    for (let block = blockOf(fd); block.length > 0; block = blockOf(fd)) {
      see(block);
      const data = rest.length === 0 ? block : Buffer.concat([rest, block]);
      let from = 0;
      for (let end = data.indexOf("\n"); end !== -1; end = data.indexOf("\n", from)) {
        yield line(data.subarray(from, end));
        start += end + 1 - from;
        number++;
        from = end + 1;
      }
      rest = data.subarray(from);
      if (rest.length > LONGEST_LINE)
        throw new SetupError(`${file} has a line of more than ${LONGEST_LINE >> 20} MiB (line ${number})`);
    }
    if (rest.length > 0) yield line(rest);
  } finally {
    closeSync(fd);
  }
}

/** What a line holds as JSON; undefined where it is none. */
export function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function opened(file: string): number {
  try {
    return openSync(file, "r");
  } catch (error) {
    throw new SetupError(`${file} cannot be read: ${error instanceof Error ? error.message : error}`);
  }
}

function blockOf(fd: number): Buffer {
  const block = Buffer.allocUnsafe(BLOCK_BYTES);
  return block.subarray(0, readSync(fd, block, 0, BLOCK_BYTES, null));
}
