import { createHash, type Hash } from "node:crypto";
import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { SetupError } from "../../runtime/contract/errors.js";

const FLOAT = Float32Array.BYTES_PER_ELEMENT;
/** Rows that are copied or read through at a time. */
export const BLOCK_ROWS = 4096;

/** Rows of float32 (of this machine's byte order), one behind the other in a file. */
export class RowFile implements Disposable {
  #hash: Hash | null;

  private constructor(
    readonly path: string,
    readonly width: number,
    readonly fd: number,
    private count: number,
    hash: Hash | null,
  ) {
    this.#hash = hash;
  }

  /** An empty file. @throws SetupError where it cannot be made. */
  static create(path: string, width: number): RowFile {
    return new RowFile(path, width, opened(path, "w+"), 0, createHash("sha256"));
  }

  /** A file that is there. @throws SetupError where it is not, or ends within a row. */
  static open(path: string, width: number): RowFile {
    const fd = opened(path, "r");
    const { size } = fstatSync(fd);
    if (size % (width * FLOAT) === 0) return new RowFile(path, width, fd, size / (width * FLOAT), null);
    closeSync(fd);
    throw new SetupError(`${path} does not hold rows of ${width} numbers`);
  }

  get rows(): number {
    return this.count;
  }

  /**
   * @param toCome rows that are still to be appended, these included
   * @throws SetupError where the disk is full, naming the folder and what is missing
   */
  append(rows: Float32Array, toCome: number): void {
    const bytes = bytesOf(rows);
    try {
      for (let done = 0; done < bytes.length; ) {
        const at = this.count * this.width * FLOAT + done;
        done += writeSync(this.fd, bytes, done, bytes.length - done, at);
      }
    } catch (error) {
      const needed = toCome * this.width * FLOAT;
      const reason = error instanceof Error ? error.message : String(error);
      throw new SetupError(`${dirname(this.path)} has no room for ${needed} bytes of activations more: ${reason}`);
    }
    this.#hash?.update(bytes);
    this.count += rows.length / this.width;
  }

  /** Reads rows [first, first + into.length / width). */
  read(first: number, into: Float32Array): void {
    const bytes = bytesOf(into);
    const read = readSync(this.fd, bytes, 0, bytes.length, first * this.width * FLOAT);
    if (read < bytes.length) throw new SetupError(`${this.path} became shorter while it was being read`);
  }

  /** Reads these rows, one behind the other. */
  gather(rows: Uint32Array, into: Float32Array): void {
    const bytes = bytesOf(into);
    const size = this.width * FLOAT;
    let read = 0;
    for (const [i, row] of rows.entries()) read += readSync(this.fd, bytes, i * size, size, row * size);
    if (read < bytes.length) throw new SetupError(`${this.path} became shorter while it was being read`);
  }

  /** All rows in blocks; a block is overwritten by the next. */
  *blocks(): Generator<{ readonly first: number; readonly rows: Float32Array }> {
    const block = new Float32Array(Math.min(BLOCK_ROWS, this.count) * this.width);
    for (let first = 0; first < this.count; first += BLOCK_ROWS) {
      const rows = block.subarray(0, Math.min(BLOCK_ROWS, this.count - first) * this.width);
      this.read(first, rows);
      yield { first, rows };
    }
  }

  /** Returns when what was appended is on the disk. */
  sync(): void {
    fsyncSync(this.fd);
  }

  /** sha256 (hex) of the file; it is read through unless all of it was appended here. */
  digest(): string {
    const hash = this.#hash?.copy() ?? createHash("sha256");
    if (this.#hash === null) for (const { rows } of this.blocks()) hash.update(bytesOf(rows));
    return hash.digest("hex");
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

function opened(path: string, flags: "w+" | "r"): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new SetupError(`${path} cannot be ${flags === "r" ? "read" : "written"}: ${reason}`);
  }
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
