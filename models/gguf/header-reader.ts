import { ModelFormatError } from "../errors.js";
import { readFully } from "../model-file.js";

/** Bytes that are read from the file at a time. */
const WINDOW = 2 ** 20;
/** No header is read beyond this byte: the largest real ones, with 260,000 tokens, are a tenth of it. */
const MAX_HEADER_BYTES = 2 ** 28;

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads a file's little-endian values from the front to the back through a window of its bytes. Every length that the
 * file states is compared with the bytes that are left before anything is multiplied or allocated by it.
 * `what` is what an error calls the thing that is being read.
 */
export class HeaderReader {
  readonly #limit: number;
  #window = new Uint8Array(0);
  #view = new DataView(this.#window.buffer);
  /** Byte of the file at which the window begins, and the next byte to read within the window. */
  #start = 0;
  #at = 0;

  constructor(
    readonly fd: number,
    readonly size: number,
    readonly path: string,
  ) {
    this.#limit = Math.min(size, MAX_HEADER_BYTES);
  }

  /** The next byte, counted from the beginning of the file. */
  get position(): number {
    return this.#start + this.#at;
  }

  u8(what: string): number {
    const at = this.#take(1, what);
    return this.#view.getUint8(at);
  }
  i8(what: string): number {
    const at = this.#take(1, what);
    return this.#view.getInt8(at);
  }
  u16(what: string): number {
    const at = this.#take(2, what);
    return this.#view.getUint16(at, true);
  }
  i16(what: string): number {
    const at = this.#take(2, what);
    return this.#view.getInt16(at, true);
  }
  u32(what: string): number {
    const at = this.#take(4, what);
    return this.#view.getUint32(at, true);
  }
  i32(what: string): number {
    const at = this.#take(4, what);
    return this.#view.getInt32(at, true);
  }
  f32(what: string): number {
    const at = this.#take(4, what);
    return this.#view.getFloat32(at, true);
  }
  u64(what: string): bigint {
    const at = this.#take(8, what);
    return this.#view.getBigUint64(at, true);
  }
  i64(what: string): bigint {
    const at = this.#take(8, what);
    return this.#view.getBigInt64(at, true);
  }
  f64(what: string): number {
    const at = this.#take(8, what);
    return this.#view.getFloat64(at, true);
  }

  /** A u64 that counts things of at least `bytes` bytes each, all of which must still come. */
  count(what: string, things: string, bytes: number): number {
    const at = this.#take(8, what);
    const low = this.#view.getUint32(at, true);
    const high = this.#view.getUint32(at + 4, true);
    const left = this.#limit - this.position;
    // Below 2^32 both factors are small, so that the product is exact.
    if (high === 0 && low * bytes <= left) return low;
    const promised = this.#view.getBigUint64(at, true);
    if (promised * BigInt(bytes) > BigInt(left))
      throw this.refuse(
        `${what} is said to have ${promised} ${things}${bytes > 1 ? ` of ${bytes} bytes or more` : ""}, but ${
          this.size > this.#limit ? `no real header goes beyond byte ${this.#limit}:` : "the file is too short:"
        } ${left} bytes are left`,
      );
    return Number(promised);
  }

  /** A string of the file; bytes that are no UTF-8 become U+FFFD. */
  text(what: string): string {
    const length = this.count(what, "bytes", 1);
    const at = this.#take(length, what);
    return Buffer.from(this.#window.buffer, this.#window.byteOffset + at, length).toString("utf8");
  }

  /** @throws ModelFormatError where it is longer than `longest` bytes or no UTF-8. */
  strictText(what: string, longest: number): string {
    const length = this.count(what, "bytes", 1);
    if (length > longest) throw this.refuse(`${what} has ${length} bytes, but at most ${longest} are allowed`);
    const at = this.#take(length, what);
    try {
      return strict.decode(this.#window.subarray(at, at + length));
    } catch {
      throw this.refuse(`${what} is not valid UTF-8`);
    }
  }

  /** Fills `bytes`. */
  fill(bytes: Uint8Array, what: string): void {
    if (bytes.length > this.#limit - this.position) throw this.#short(what);
    const buffered = this.#window.subarray(this.#at, this.#at + bytes.length);
    bytes.set(buffered);
    readFully(this.fd, this.path, bytes.subarray(buffered.length), this.position + buffered.length);
    const end = this.position + bytes.length;
    if (buffered.length === bytes.length) this.#at += bytes.length;
    else this.#load(end, 0);
  }

  refuse(reason: string): ModelFormatError {
    return new ModelFormatError(this.path, reason);
  }

  /** Index in the window of the next `bytes` bytes, which are then behind us. */
  #take(bytes: number, what: string): number {
    if (this.#at + bytes > this.#window.length) {
      const left = this.#limit - this.position;
      if (bytes > left) throw this.#short(what);
      this.#load(this.position, Math.min(left, Math.max(WINDOW, bytes)));
    }
    this.#at += bytes;
    return this.#at - bytes;
  }

  #load(position: number, length: number): void {
    this.#window = new Uint8Array(length);
    this.#view = new DataView(this.#window.buffer);
    this.#start = position;
    this.#at = 0;
    readFully(this.fd, this.path, this.#window, position);
  }

  #short(what: string): ModelFormatError {
    if (this.size > this.#limit) return this.refuse(`${what} ends beyond byte ${this.#limit}, as no real header does`);
    return this.refuse(`the file is too short: it ends within ${what}`);
  }
}
