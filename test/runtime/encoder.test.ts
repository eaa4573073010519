import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ModelFormatError } from "../../models/errors.js";
import { openTokenizer } from "../../models/tokenizer/tokenizer.js";
import { Encoder } from "../../runtime/encoder.js";

const book = readFileSync("test/data/the-wind-in-the-willows.txt", "utf8");
const tokenizer = openTokenizer("models/default", 4096)!;
let encoder: Encoder;

async function start(): Promise<Encoder> {
  const started = await Encoder.start("models/default", 4096);
  if (!started) throw new Error("the embedded model has a tokenizer");
  return started;
}

beforeAll(async () => {
  encoder = await start();
});
afterAll(() => encoder.close());

test("gives the tokenizer's ids, as plain numbers", async () => {
  for (const text of ["", "Once upon a time", "<|endoftext|>é東😀\n", book.slice(0, 20_000)]) {
    const ids = await encoder.encode(text);
    expect(Array.isArray(ids)).toBe(true);
    expect(ids).toEqual(tokenizer.encode(text));
  }
});

test("brings every token's bytes to the calling thread on shared memory", () => {
  expect(encoder.tokens.data.bytes.buffer).toBeInstanceOf(SharedArrayBuffer);
  expect(encoder.tokens.decode([0, 3852, 600])).toBe("Once upon");
});

test("a short text does not wait for a long one", async () => {
  const finished: string[] = [];
  const long = encoder.encode(book).then(() => finished.push("long"));
  const short = ["one", "two", "three"].map((text) => encoder.encode(text).then(() => finished.push(text)));
  await Promise.all([long, ...short]);
  expect(finished).toEqual(["one", "two", "three", "long"]);
});

test("long texts that are encoded in turns come out whole", async () => {
  const texts = [book.slice(0, 40_000), book.slice(50_000, 80_000), book.slice(100_000, 120_000)];
  const ids = await Promise.all(texts.map((text) => encoder.encode(text)));
  expect(ids).toEqual(texts.map((text) => tokenizer.encode(text)));
});

test("closing rejects what is pending and what comes later", async () => {
  const closing = await start();
  const pending = closing.encode(book);
  const closed = closing.close();
  await expect(pending).rejects.toThrow("closed");
  await closed;
  await expect(closing.encode("a")).rejects.toThrow("closed");
});

test("a thread that dies rejects what is pending", async () => {
  const dying = await start();
  const pending = dying.encode(book);
  const worker: unknown = Reflect.get(dying, "worker");
  if (!(worker instanceof Worker)) throw new Error("the encoder has a worker");
  await Promise.all([expect(pending).rejects.toThrow("the tokenizer's thread has ended"), worker.terminate()]);
  await expect(dying.encode("a")).rejects.toThrow("the tokenizer's thread has ended");
});

test("says what is wrong with the folder: none, or a file that cannot be used", async () => {
  const folder = mkdtempSync(join(tmpdir(), "lambdatap-encoder-"));
  expect(await Encoder.start(folder, 10)).toBeNull();
  writeFileSync(join(folder, "tokenizer.json"), "{");
  const error: unknown = await Encoder.start(folder, 10).catch((reason) => reason);
  rmSync(folder, { recursive: true });
  expect(error).toBeInstanceOf(ModelFormatError);
  expect(error).toMatchObject({ file: join(folder, "tokenizer.json") });
});
