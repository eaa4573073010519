import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fingerprint, readDocuments } from "../../loadtest/documents.js";
import { piecesOf } from "../../loadtest/perplexity/sequence.js";
import { temporaryFolder } from "../models/weights/write-safetensors.js";

describe("documents", () => {
  const file = (folder: string, name: string, content: string | Uint8Array) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };

  test("are files in the order they are named, and the .txt files of folders by name", () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "books"));
    file(folder, "books/b.txt", "B");
    file(folder, "books/a.txt", "A");
    file(folder, "books/notes.md", "not a book");
    const single = file(folder, "last.text", "last");
    expect(readDocuments([single, join(folder, "books")])).toEqual([
      { name: "last.text", text: "last" },
      { name: "a", text: "A" },
      { name: "b", text: "B" },
    ]);
  });

  test("that cannot be read are refused by their paths", () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "empty"));
    expect(() => readDocuments([join(folder, "nowhere.txt")])).toThrow(/nowhere.txt does not exist/);
    expect(() => readDocuments([join(folder, "empty")])).toThrow(/empty is a folder without .txt files/);
    expect(() => readDocuments([file(folder, "blank.txt", " \n")])).toThrow(/blank.txt is empty/);
    expect(() => readDocuments([file(folder, "latin.txt", Uint8Array.of(0x61, 0xe9, 0x62))])).toThrow(
      /latin.txt is not UTF-8/,
    );
  });

  test("are told apart by their texts, where these end and in which order they come", () => {
    const of = (...texts: string[]) => fingerprint(texts.map((text) => ({ name: "x", text })));
    const all = [of("ab", "c"), of("a", "bc"), of("c", "ab"), of("abc")];
    expect(new Set(all).size).toBe(4);
    expect(of("ab", "c")).toBe(all[0]);
  });
});

describe("a text that is too long for one body", () => {
  test("is cut behind paragraphs, else lines, else words, else anywhere but in a character", () => {
    expect(piecesOf("aaaa\n\nbbbb\ncc", 8)).toEqual(["aaaa\n\n", "bbbb\ncc"]);
    expect(piecesOf("aaaa\nbbbbcc", 8)).toEqual(["aaaa\n", "bbbbcc"]);
    expect(piecesOf("aaaa bbbbcc", 8)).toEqual(["aaaa ", "bbbbcc"]);
    expect(piecesOf("a\n\nbbbbbbbbb", 8)).toEqual(["a\n\nbbbbb", "bbbb"]);
    expect(piecesOf("aaa\u{1f600}\u{1f600}", 4)).toEqual(["aaa", "\u{1f600}\u{1f600}"]);
    expect(piecesOf("short", 8)).toEqual(["short"]);
  });
});
