import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { contentHash } from "../../../models/cache/content-hash.js";
import { ModelFormatError } from "../../../models/errors.js";
import { temporaryFolder } from "../weights/write-safetensors.js";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
const GOLDEN = "test/golden/architectures/llama";
const FILES = [join(GOLDEN, "config.json"), join(GOLDEN, "model.safetensors")];

/** Puts another hash into the memory, so that it shows whether the memory or the file was used. */
function falsify(root: string): void {
  const memory = join(root, "hashes.json");
  writeFileSync(memory, readFileSync(memory, "utf8").replaceAll(/"sha256": "\w+"/g, `"sha256": "${sha256("false")}"`));
}
const FALSE = sha256(sha256("false") + sha256("false"));

describe("the hash of a model's content", () => {
  it("is that of the files' bytes in order", async () => {
    const root = temporaryFolder();
    const expected = sha256(
      FILES.map((file) => createHash("sha256").update(readFileSync(file)).digest("hex")).join(""),
    );
    expect(await contentHash(root, FILES)).toBe(expected);
    expect(await contentHash(root, FILES)).toBe(expected);
    expect(await contentHash(root, [...FILES].reverse())).not.toBe(expected);
  });

  it("is remembered without reading the files again, for other roots and files too", async () => {
    const root = join(temporaryFolder(), "new");
    await contentHash(root, FILES);
    await contentHash(root, [join(GOLDEN, "config-v4.json")]);
    expect(readdirSync(root)).toEqual(["hashes.json"]);
    falsify(root);
    expect(await contentHash(root, FILES)).toBe(FALSE);
    expect(await contentHash(temporaryFolder(), FILES)).not.toBe(FALSE);
  });

  it("is computed anew when the memory is damaged or holds something else", async () => {
    const root = temporaryFolder();
    const expected = await contentHash(root, FILES);
    for (const damage of ["", "[{", "{}", '[{"path":1}]', "\0\0"]) {
      writeFileSync(join(root, "hashes.json"), damage);
      expect(await contentHash(root, FILES)).toBe(expected);
      expect(JSON.parse(readFileSync(join(root, "hashes.json"), "utf8"))).toHaveLength(2);
    }
  });

  it("is computed where nothing can be remembered", async () => {
    const root = join(temporaryFolder(), "file");
    writeFileSync(root, "");
    expect(await contentHash(root, FILES)).toMatch(/^[0-9a-f]{64}$/);
  });

  it("follows a file that changes, though size and modification time stay", async () => {
    const root = temporaryFolder();
    const file = join(temporaryFolder(), "weights");
    const hashOf = async (text: string) => {
      writeFileSync(file, text);
      utimesSync(file, 1000, 1000);
      return contentHash(root, [file]);
    };
    expect(await hashOf("first")).toBe(sha256(sha256("first")));
    // So close together the file's times may be equal, too.
    for (let i = 100; i < 200; i++) expect(await hashOf(`at ${i}`)).toBe(sha256(sha256(`at ${i}`)));
    await sleep(2_100);
    await contentHash(root, [file]);
    expect(readFileSync(join(root, "hashes.json"), "utf8")).toContain(file);
    expect(await hashOf("at end")).toBe(sha256(sha256("at end")));
  });

  it("names a file that cannot be read", async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "d"));
    for (const file of [join(folder, "none"), join(folder, "d")]) {
      const error = await contentHash(temporaryFolder(), [file]).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ModelFormatError);
      expect(error).toMatchObject({ file });
    }
  });
});
