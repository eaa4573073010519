import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TextDocuments } from "../../../lab/activations/text-documents.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const file = (name: string, contents: string | Uint8Array): string => {
  const path = join(folder, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, contents);
  return path;
};
const textsOf = (documents: TextDocuments): string[] =>
  Array.from({ length: documents.count }, (_, i) => documents.read(i));

describe("documents", () => {
  it("are files, parts of files and lines of files, of folders by name", () => {
    file("b.txt", "\uFEFFone\r\n<|endoftext|>\r\n\r\n  two\n\nstill two\n<|endoftext|>\n");
    file("a/z.jsonl", `{"text": "three\\n\\u00fc", "id": 4}\n\n{"text": "   "}\n{"text": "four"}`);
    file("a/notes.md", "not text");
    file("c.txt", "five <|endoftext|> in a line is text");
    const documents = TextDocuments.open([folder, join(folder, "c.txt")]);
    expect(textsOf(documents)).toEqual([
      ...["three\n\u00fc", "four", "one", "two\n\nstill two", "five <|endoftext|> in a line is text"],
    ]);
    expect(documents.name(2)).toBe("b.txt");
    expect(documents.name(3)).toMatch(/^b.txt, byte \d+$/);
  });

  it("of linked files and folders are read, once each by whatever names, and never in circles", () => {
    file("books/a.txt", "one");
    symlinkSync("a.txt", join(folder, "books", "b.txt"));
    symlinkSync(".", join(folder, "books", "c"));
    symlinkSync("nowhere.txt", join(folder, "books", "d.txt"));
    symlinkSync("e.txt", join(folder, "books", "e.txt"));
    symlinkSync("books", join(folder, "same"));
    expect(textsOf(TextDocuments.open([folder, join(folder, "same"), join(folder, "books", "b.txt")]))).toEqual([
      "one",
    ]);
    expect(textsOf(TextDocuments.open([join(folder, "same")]))).toEqual(["one"]);
  });

  it("of long files begin at paragraphs, and nothing of the file is lost", () => {
    const paragraphs = Array.from({ length: 3000 }, (_, i) => `${i} ${"w\u00f6rds ".repeat(i % 40)}.`);
    const text = paragraphs.join("\n\n");
    const documents = TextDocuments.open([file("long.txt", text)]);
    expect(documents.count).toBeGreaterThan(3);
    expect(textsOf(documents).join("\n\n")).toBe(text);
    const unbroken = "no paragraphs here\n".repeat(50_000);
    expect(TextDocuments.open([file("lines.txt", unbroken)]).count).toBeGreaterThan(2);
  });

  it("have a hash of what the files hold, in order, whatever they are called", () => {
    const [one, two] = [file("1.txt", "same"), file("2.txt", "other")];
    const same = TextDocuments.open([file("3.txt", "same")]).hash;
    expect(TextDocuments.open([one]).hash).toBe(same);
    expect(TextDocuments.open([two]).hash).not.toBe(same);
    expect(TextDocuments.open([one, two]).hash).not.toBe(TextDocuments.open([two, one]).hash);
  });

  it("that change while they are read are noticed", () => {
    const path = file("a.txt", "much longer text");
    const documents = TextDocuments.open([path]);
    writeFileSync(path, "short");
    expect(() => documents.read(0)).toThrow(/a\.txt has changed since it was first read/);
  });
});

describe("what is no text is a sentence that names the file", () => {
  it.each([
    ["missing", () => join(folder, "none.txt"), /none\.txt does not exist/],
    ["standard input", () => "-", /--text - does not exist/],
    ["of another kind", () => file("a.pdf", "x"), /a\.pdf is neither \.txt nor \.jsonl/],
    ["empty", () => file("a.txt", ""), /a\.txt has no document/],
    ["white space", () => file("a.txt", " \n\n<|endoftext|>\n \n"), /a\.txt has no document/],
    ["binary", () => file("a.txt", Uint8Array.of(65, 10, 0, 66)), /a\.txt is not UTF-8 text \(line 2\)/],
    ["Latin-1", () => file("a.txt", Uint8Array.of(65, 0xfc, 66)), /a\.txt is not UTF-8 text \(line 1\)/],
    [
      "of one endless line",
      () => file("a.txt", "x".repeat(18 << 20)),
      /a\.txt has a line of more than 16 MiB \(line 1\)/,
    ],
    ["without JSON", () => file("a.jsonl", '{"text": "a"}\nhello'), /line 2 of .*a\.jsonl is not a JSON object/],
    ["without a text", () => file("a.jsonl", '{"content": "a"}'), /line 1 of .*a\.jsonl is not a JSON object/],
    ["of half characters", () => file("a.jsonl", '{"text": "a\\ud800"}'), /line 1 of .* half of a surrogate pair/],
    ["without documents", () => file("a.jsonl", '{"text": ""}'), /a\.jsonl has no document/],
    [
      "an empty folder",
      () => {
        mkdirSync(join(folder, "empty"));
        return join(folder, "empty");
      },
      /empty is a folder without/,
    ],
    [
      "a pipe or device",
      () => {
        symlinkSync("/dev/null", join(folder, "a.txt"));
        return join(folder, "a.txt");
      },
      /a\.txt is not a regular file/,
    ],
  ])("%s", (_, path, message) => {
    const named = path();
    expect(() => TextDocuments.open([named])).toThrow(expect.objectContaining({ name: "SetupError" }));
    expect(() => TextDocuments.open([named])).toThrow(message);
  });

  it("a link that leads in a circle", () => {
    symlinkSync("a.txt", join(folder, "a.txt"));
    expect(() => TextDocuments.open([join(folder, "a.txt")])).toThrow(/--text .*a\.txt cannot be read: ELOOP/);
    expect(() => TextDocuments.open([folder])).toThrow(/is a folder without \.txt or \.jsonl files/);
  });

  it("no text at all", () => {
    expect(() => TextDocuments.open([])).toThrow(/--text/);
  });
});
