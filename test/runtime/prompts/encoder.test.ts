import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ModelFormatError } from "../../../models/errors.js";
import type { Tokenizer } from "../../../models/tokenizer/tokenizer.js";
import { InvalidRequest } from "../../../runtime/contract/errors.js";
import { Encoder } from "../../../runtime/prompts/encoder.js";
import type { LibraryLimits } from "../../../runtime/prompts/watch.js";
import { openEmbedded } from "../../models/tokenizer/opened.js";

const book = readFileSync("test/data/the-wind-in-the-willows.txt", "utf8");
const folders = mkdtempSync(join(tmpdir(), "lambdatap-encoder-"));
let tokenizer: Tokenizer;
let encoder: Encoder;

/** Little enough to be used up in a moment. */
const TIGHT = { memory: 400 * 2 ** 20, ms: 3_000 };

async function start(path = "models/default", vocabSize = 4096, limits?: LibraryLimits): Promise<Encoder> {
  const started = await Encoder.start(path, vocabSize, limits);
  if (!started) throw new Error("the model has a tokenizer");
  return started;
}

let made = 0;
function folder(tokenizer?: unknown): string {
  const path = join(folders, String(made++));
  mkdirSync(path);
  const text = typeof tokenizer === "string" ? tokenizer : JSON.stringify(tokenizer);
  if (tokenizer !== undefined) writeFileSync(join(path, "tokenizer.json"), text);
  return path;
}

const kill = ({ jobs }: Encoder): void => void process.kill(jobs.pid ?? 0, "SIGKILL");

/** Every character grows by a factor for each of them, in a model of one token. */
const growing = (times: number, content: string) => ({
  version: "1.0",
  normalizer: {
    type: "Sequence",
    normalizers: Array(times).fill({ type: "Replace", pattern: { String: "" }, content }),
  },
  model: { type: "BPE", vocab: { a: 0 }, merges: [] },
});

beforeAll(async () => {
  [tokenizer, encoder] = await Promise.all([openEmbedded(), start()]);
});
afterAll(() => {
  encoder.close();
  rmSync(folders, { recursive: true });
});

test("gives the tokenizer's ids, on memory that holds nothing else", async () => {
  for (const text of ["", "Once upon a time", "<|endoftext|>é東😀\n", book.slice(0, 20_000)]) {
    const ids = await encoder.encode(text, "prompt");
    expect(ids.buffer.byteLength).toBe(ids.byteLength);
    expect(ids).toEqual(await tokenizer.encode(text));
  }
});

test("brings every token's bytes to the calling process on memory that threads share", () => {
  expect(encoder.tokens.data.bytes.buffer).toBeInstanceOf(SharedArrayBuffer);
  expect(encoder.tokens.decode([0, 3852, 600])).toBe("Once upon");
});

test("short texts do not wait for long ones", async () => {
  const finished: string[] = [];
  const long = Array.from({ length: 6 }, () => encoder.encode(book, "prompt").then(() => finished.push("long")));
  const short = ["one", "two", "three"].map((text) =>
    encoder.encode(text, "prompt").then(() => finished.push("short")),
  );
  await Promise.all([...long, ...short]);
  expect(finished).toEqual([...Array(3).fill("short"), ...Array(6).fill("long")]);
});

test("long texts that are encoded in turns come out whole", async () => {
  const texts = [book, book.slice(50_000, 180_000), book.slice(100_000, 220_000)];
  const ids = await Promise.all(texts.map((text) => encoder.encode(text, "prompt")));
  expect(ids).toEqual(await Promise.all(texts.map((text) => tokenizer.encode(text))));
});

test("half of a surrogate pair is refused with the field that holds it", async () => {
  const error: unknown = await encoder.encode("a \ud83d b", "prompt[1]").catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(InvalidRequest);
  expect(error).toMatchObject({ param: "prompt[1]", message: expect.stringContaining("half of a surrogate pair") });
});

test("a killed process is replaced, and what it was asked is answered all the same", async () => {
  const before = encoder.jobs.pid;
  const asked = [book, "Once upon a time", "a mole"];
  const pending = asked.map((text) => encoder.encode(text, "prompt"));
  kill(encoder);
  expect(await Promise.all(pending)).toEqual(await Promise.all(asked.map((text) => tokenizer.encode(text))));
  expect(encoder.jobs.pid).not.toBe(before);
  kill(encoder);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await encoder.encode("a mole", "prompt")).toEqual(await tokenizer.encode("a mole"));
});

test("a text that ends the process twice is refused, and others beside it are not", async () => {
  // Each character becomes 2^15: this many fit in memory where a few do, and not where there are 20,000.
  const fragile = await start(folder(growing(15, "a")), 1, TIGHT);
  const short = await fragile.encode("a", "prompt");
  const texts = [
    fragile.encode("a".repeat(20_000), "prompt"),
    fragile.encode("a", "prompt"),
    fragile.encode("a", "prompt"),
  ];
  const [fatal, ...fine] = await Promise.allSettled(texts);
  expect(fatal).toMatchObject({ status: "rejected", reason: { name: "InvalidRequest", param: "prompt" } });
  for (const each of fine) expect(each).toEqual({ status: "fulfilled", value: short });
  expect(await fragile.encode("a", "prompt")).toEqual(short);
  fragile.close();
}, 60_000);

test("a tokenizer that ends the process with any text is refused at the start", async () => {
  const path = folder(growing(12, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
  const error: unknown = await Encoder.start(path, 1, TIGHT).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ModelFormatError);
  expect(error).toMatchObject({
    file: path,
    reason: expect.stringContaining("its tokenizer ends the process that opens it"),
  });
}, 60_000);

test("a process that finds another tokenizer than at the start says so", async () => {
  const path = folder();
  cpSync("models/default/tokenizer.json", join(path, "tokenizer.json"));
  const changed = await start(path);
  await changed.encode("a mole", "prompt");
  writeFileSync(join(path, "tokenizer.json"), `${readFileSync(join(path, "tokenizer.json"), "utf8")}\n`);
  kill(changed);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await expect(changed.encode("a mole", "prompt")).rejects.toThrow("another one than at the start");
  changed.close();
});

test("closing rejects what is pending and what comes later", async () => {
  const closing = await start();
  const pending = closing.encode(book, "prompt");
  closing.close();
  await expect(pending).rejects.toThrow("closed");
  await expect(closing.encode("a", "prompt")).rejects.toThrow("closed");
});

test("says what is wrong with the folder: none, or a file that cannot be used", async () => {
  expect(await Encoder.start(folder(), 10)).toBeNull();
  const broken = folder("{");
  const error: unknown = await Encoder.start(broken, 10).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ModelFormatError);
  expect(error).toMatchObject({ file: join(broken, "tokenizer.json") });
});
