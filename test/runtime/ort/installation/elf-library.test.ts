import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ElfError, readElfLibrary } from "../../../../runtime/ort/installation/elf-library.js";
import { libraryPath, VERSION } from "../../../../runtime/ort/library.js";
import { elfFile } from "./elf-file.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-elf-"));
afterAll(() => rmSync(folder, { recursive: true }));

const contents = { soname: "liba.so.1", needed: ["libb.so.2", "libcudart.so.13"], versions: ["VERS_1.2.3", "VERS_2"] };
const whole = elfFile(contents);

function read(bytes: Buffer) {
  const path = join(folder, "lib.so");
  writeFileSync(path, bytes);
  return readElfLibrary(path);
}

const changed = (change: (bytes: Buffer) => unknown): Buffer => {
  const bytes = Buffer.from(whole);
  change(bytes);
  return bytes;
};

/** The same library with another size of its table of names. */
const withNames = (resized: (bytes: number) => number): Buffer =>
  changed((bytes) => {
    for (let at = 0x1000; at < bytes.length; at += 16)
      if (bytes.readBigUInt64LE(at) === 10n)
        bytes.writeBigUInt64LE(BigInt(resized(Number(bytes.readBigUInt64LE(at + 8)))), at + 8);
  });

describe("a shared library", () => {
  test("says its name, what it needs, and its versions", () => {
    expect(read(whole)).toEqual(contents);
  });

  test("may say nothing", () => {
    expect(read(elfFile({}))).toEqual({ soname: null, needed: [], versions: [] });
  });

  test.skipIf(process.platform !== "linux")("that ships says that it is ONNX Runtime of our version", () => {
    const { soname, needed, versions } = readElfLibrary(libraryPath());
    expect(soname).toBe("libonnxruntime.so.1");
    expect(needed).toContain("libc.so.6");
    expect(versions).toEqual([`VERS_${VERSION}`]);
  });
});

describe("what is no shared library is refused with the file and the reason:", () => {
  test.each([
    ["nothing", Buffer.alloc(0), "is no ELF file"],
    ["text", Buffer.from("version https://git-lfs.github.com/spec/v1\n".repeat(9)), "is no ELF file"],
    ["32 bits", changed((b) => b.writeUInt8(1, 4)), "another machine"],
    ["another byte order", changed((b) => b.writeUInt8(2, 5)), "another machine"],
    ["another processor", changed((b) => b.writeUInt16LE(8, 18)), "another machine"],
    ["a program", changed((b) => b.writeUInt16LE(2, 16)), "is no shared library"],
    ["no dynamic section", changed((b) => b.writeUInt32LE(4, 64 + 2 * 56)), "is no shared library"],
    ["segments of another size", changed((b) => b.writeUInt16LE(55, 54)), "broken table of segments"],
    ["segments beyond the file", changed((b) => b.writeBigUInt64LE(2n ** 63n, 32)), "is cut off"],
    [
      "a dynamic section as large as a disk",
      changed((b) => b.writeBigUInt64LE(2n ** 40n, 64 + 2 * 56 + 32)),
      "broken dynamic section",
    ],
    ["half of it", whole.subarray(0, whole.length / 2), "is cut off"],
    ["names that end too early", withNames((bytes) => bytes - 1), "name without an end"],
    ["no names", withNames(() => 1), "name outside of its table"],
    ["names beyond the file", withNames(() => 1e6), "is cut off"],
    ["tables that are not loaded", changed((b) => b.writeBigUInt64LE(2n ** 30n, 64 + 16)), "outside of the file"],
  ])("%s", (_, bytes, reason) => {
    expect(() => read(bytes)).toThrow(ElfError);
    expect(() => read(bytes)).toThrow(`lib.so ${reason.startsWith("is") ? reason : ""}`);
    expect(() => read(bytes)).toThrow(reason);
  });

  test("no file, and a folder", () => {
    expect(() => readElfLibrary(join(folder, "absent.so"))).toThrow(/absent\.so cannot be read: ENOENT/);
    expect(() => readElfLibrary(folder)).toThrow(ElfError);
  });

  test("a byte changed anywhere, or the end cut off anywhere, gives an answer or an ElfError", () => {
    const at = Array.from({ length: whole.length }, (_, i) => i).filter((i) => i < 64 + 3 * 56 || whole[i] !== 0);
    for (const i of at)
      for (const value of [0, 1, 0xff]) {
        const answer = outcome(changed((bytes) => bytes.writeUInt8(value, i)));
        expect([i, value, answer]).toEqual([i, value, expect.stringMatching(/^(read|ElfError)$/)]);
      }
    for (let end = 0; end < 1024; end += 7) expect(outcome(whole.subarray(0, end))).toBe("ElfError");
  });
});

function outcome(bytes: Buffer): string {
  try {
    read(bytes);
    return "read";
  } catch (error) {
    return error instanceof Error ? error.name : "no error";
  }
}
