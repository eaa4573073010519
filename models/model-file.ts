import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { ModelFormatError } from "./errors.js";

/** The largest JSON file of a model that is read at all, bytes; the largest tokenizers are a tenth of it. */
const MAX_JSON_BYTES = 256 * 2 ** 20;

export type JsonObject = Readonly<Record<string, unknown>>;

/** Whether a JSON value is an object (not null, not an array). */
export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * Opens a regular file for reading; the caller closes `fd`. `size` in bytes.
 * @throws ModelFormatError if it is absent, not a regular file, or not readable.
 */
export function openModelFile(path: string): { readonly fd: number; readonly size: number } {
  try {
    // Before opening: opening a pipe waits for its writer.
    if (!statSync(path).isFile()) throw new ModelFormatError(path, "this is not a regular file");
    const fd = openSync(path, "r");
    return { fd, size: fstatSync(fd).size };
  } catch (error) {
    throw unreadable(path, error);
  }
}

/**
 * Fills `bytes` from the file's byte `position` on.
 * @throws ModelFormatError if the file ends before.
 */
export function readFully(fd: number, path: string, bytes: Uint8Array, position: number): void {
  const pieceBytes = 2 ** 28;
  for (let done = 0; done < bytes.byteLength; ) {
    const length = Math.min(pieceBytes, bytes.byteLength - done);
    let read: number;
    try {
      read = readSync(fd, bytes, done, length, position + done);
    } catch (error) {
      throw unreadable(path, error);
    }
    if (read === 0) throw new ModelFormatError(path, "the file became shorter while it was being read");
    done += read;
  }
}

/**
 * A file of text.
 * @throws ModelFormatError if it is absent, larger than `maxBytes`, or not UTF-8.
 */
export function readTextFile(path: string, maxBytes: number): string {
  const { fd, size } = openModelFile(path);
  try {
    if (size > maxBytes) throw new ModelFormatError(path, `it has ${size} bytes, but at most ${maxBytes} are read`);
    const bytes = new Uint8Array(size);
    readFully(fd, path, bytes, 0);
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof ModelFormatError) throw error;
    throw new ModelFormatError(path, `the file is not UTF-8: ${messageOf(error)}`);
  } finally {
    closeSync(fd);
  }
}

/**
 * A JSON file that holds an object.
 * @throws ModelFormatError if it is absent, too large, not UTF-8, not JSON (cut off), or not an object.
 */
export const readJsonObject = (path: string): JsonObject => readJsonFile(path).value;

/** The same, with the text that it was. */
export function readJsonFile(path: string): { readonly text: string; readonly value: JsonObject } {
  const text = readTextFile(path, MAX_JSON_BYTES);
  try {
    const value: unknown = JSON.parse(text);
    if (!isJsonObject(value)) throw new ModelFormatError(path, "the file holds no JSON object");
    return { text, value };
  } catch (error) {
    if (error instanceof ModelFormatError) throw error;
    throw new ModelFormatError(path, `the file is not valid JSON (cut off?): ${messageOf(error)}`);
  }
}

function unreadable(path: string, error: unknown): ModelFormatError {
  if (error instanceof ModelFormatError) return error;
  const absent = error instanceof Error && "code" in error && error.code === "ENOENT";
  return new ModelFormatError(path, absent ? "there is no such file" : `the file cannot be read: ${messageOf(error)}`);
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
