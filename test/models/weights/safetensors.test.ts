import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ModelFormatError } from "../../../models/errors.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { temporaryFolder, thrownBy, writeSafetensors } from "./write-safetensors.js";

const HOSTILE = "test/golden/sae/hostile";
const SOUND = ["valid-control", "proto-name"];

const entry = (dtype: string, shape: number[], begin: number, end: number) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

/** The message with which opening a file of this header and this much data is refused. */
function refusal(header: unknown, dataBytes = 0): string {
  const path = writeSafetensors(join(temporaryFolder(), "x.safetensors"), header, new Uint8Array(dataBytes));
  const error = thrownBy(() => openSafetensors(path));
  if (!(error instanceof ModelFormatError)) throw new Error(`not refused: ${error}`);
  expect(error.file).toBe(path);
  return error.reason;
}

/** One tensor of 16-bit values, read back as f32. */
function widened(dtype: string, halves: Uint16Array, start?: number, count?: number): Float32Array {
  const bytes = new Uint8Array(halves.buffer, halves.byteOffset, halves.byteLength);
  const path = join(temporaryFolder(), "x.safetensors");
  using file = openSafetensors(writeSafetensors(path, { w: entry(dtype, [halves.length], 0, bytes.length) }, bytes));
  return file.readF32("w", start, count);
}

describe("a safetensors file that cannot be trusted", () => {
  const reasons: Record<string, RegExp> = {
    "bytes-after-last-tensor": /last \d+ bytes of the file belong to no tensor/,
    "duplicate-name": /"W_enc" occurs twice/,
    empty: /has 0/,
    "header-length-2-60": /said to have 1152921504606846976 bytes/,
    "header-length-2-64-minus-1": /said to have 18446744073709551615 bytes/,
    "header-not-json": /not valid JSON/,
    "hole-between-tensors": /8 bytes before tensor "b_enc" belong to no tensor/,
    "larger-than-file": /"W_enc" .*shorter than its header promises/,
    "offsets-negative": /"W_enc" .*data_offsets/,
    "offsets-reversed": /ends before it begins/,
    "overlapping-offsets": /overlaps/,
    "shape-does-not-match-offsets": /"W_enc" has 128 bytes, but F32 of shape/,
    "shape-product-overflow": /"W_enc" has the impossible shape/,
    truncated: /shorter than its header promises/,
    "truncated-in-header": /shorter than its header promises/,
    "unknown-dtype": /unknown dtype/,
  };

  it("is refused, every one of the golden's, with what is wrong", () => {
    const files = readdirSync(HOSTILE).filter((name) => name.endsWith(".safetensors"));
    const hostile = files.map((name) => name.replace(".safetensors", "")).filter((name) => !SOUND.includes(name));
    expect(hostile.sort()).toEqual(Object.keys(reasons).sort());
    for (const name of hostile) {
      const path = join(HOSTILE, `${name}.safetensors`);
      const error = thrownBy(() => openSafetensors(path));
      expect(error, name).toBeInstanceOf(ModelFormatError);
      expect(error, name).toMatchObject({ file: path, reason: expect.stringMatching(reasons[name] ?? /^$/) });
    }
  });

  it("is refused when a name occurs twice with the same range, or is spelled differently", () => {
    const one = JSON.stringify(entry("F32", [1], 0, 4));
    expect(refusal(`{"w":${one},"w":${one}}`, 4)).toMatch(/"w" occurs twice/);
    expect(refusal(`{"w":${one},"\\u0077" : ${one}}`, 4)).toMatch(/"w" occurs twice/);
    expect(refusal(`{"__proto__":${one},"__proto__":${one}}`, 4)).toMatch(/"__proto__" occurs twice/);
  });

  it("is refused before a nested header is built, and when it is no object", () => {
    expect(refusal(`{"w":${"[".repeat(1_000_000)}`)).toMatch(/nested deeper/);
    expect(refusal("[]")).toMatch(/not a JSON object/);
    expect(refusal('  {"w":1}')).toMatch(/not a JSON object/);
    expect(refusal('{"w":1}')).toMatch(/malformed header entry/);
    expect(refusal('{"w":null}')).toMatch(/malformed header entry/);
    expect(refusal({ w: { dtype: "F32", shape: [1.5], data_offsets: [0, 4] } }, 4)).toMatch(/shape/);
    expect(refusal({ w: { dtype: "F32", shape: [1e300], data_offsets: [0, 4] } }, 4)).toMatch(/shape/);
    expect(refusal({ __metadata__: { a: 1 } })).toMatch(/__metadata__/);
  });

  it("is refused when the rest of the file would be a tensor of no one's, or begins late", () => {
    expect(refusal({}, 4)).toMatch(/last 4 bytes/);
    expect(refusal({ w: entry("F32", [1], 4, 8) }, 8)).toMatch(/4 bytes before tensor "w"/);
    expect(refusal({ w: entry("F4", [3], 0, 2) }, 2)).toMatch(/takes 1.5/);
  });

  it("is refused when it is absent, a folder, or a pipe", () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "d"));
    expect(thrownBy(() => openSafetensors(join(folder, "none")))).toMatchObject({ reason: "there is no such file" });
    expect(thrownBy(() => openSafetensors(join(folder, "d")))).toMatchObject({ reason: "this is not a regular file" });
    if (process.platform === "win32") return;
    execFileSync("mkfifo", [join(folder, "p")]);
    expect(thrownBy(() => openSafetensors(join(folder, "p")))).toMatchObject({ reason: "this is not a regular file" });
  });
});

describe("a sound safetensors file", () => {
  it("gives its tensors, with where they lie", () => {
    using file = openSafetensors(join(HOSTILE, "valid-control.safetensors"));
    expect([...file.tensors].map(([name, { dtype, shape }]) => [name, dtype, shape])).toEqual([
      ["W_enc", "F32", [4, 8]],
      ["b_enc", "F32", [8]],
    ]);
    expect(file.readF32("W_enc")).toHaveLength(32);
    const bytes = readFileSync(file.path);
    const { byteOffset = 0 } = file.tensors.get("b_enc") ?? {};
    expect(file.readF32("b_enc", 3, 1)[0]).toBe(bytes.readFloatLE(byteOffset + 12));
  });

  it("may have a tensor named __proto__, which touches no prototype", () => {
    using file = openSafetensors(join(HOSTILE, "proto-name.safetensors"));
    expect([...file.tensors.keys()]).toEqual(["__proto__"]);
    expect(file.readF32("__proto__")).toHaveLength(8);
    expect(Object.getOwnPropertyNames(Object.prototype)).not.toContain("dtype");
    expect(Reflect.get({}, "dtype")).toBeUndefined();
  });

  it("may have scalars, empty tensors, padding after the header, metadata, and tensors in any order", () => {
    const header = {
      __metadata__: { format: 'pt "w":' },
      late: entry("F32", [], 4, 8),
      empty: entry("F32", [0, 7], 4, 4),
      early: entry("F32", [1, 1], 0, 4),
    };
    const data = new Uint8Array(new Float32Array([1.5, -2]).buffer);
    const path = join(temporaryFolder(), "x.safetensors");
    using file = openSafetensors(writeSafetensors(path, `${JSON.stringify(header)}    `, data));
    expect([...file.readF32("early")]).toEqual([1.5]);
    expect([...file.readF32("late")]).toEqual([-2]);
    expect([...file.readF32("empty")]).toEqual([]);
  });

  it("names tensor and dtype of what are no weights, knows their size, and refuses an unknown name", () => {
    const header = {
      ids: entry("I64", [2], 0, 16),
      mask: entry("BOOL", [3], 16, 19),
      q: entry("F8_E4M3", [1], 19, 20),
    };
    const path = join(temporaryFolder(), "x.safetensors");
    using file = openSafetensors(writeSafetensors(path, header, new Uint8Array(20)));
    expect(() => file.readF32("ids")).toThrow(/tensor "ids" has dtype I64/);
    expect(() => file.readF32("mask")).toThrow(/tensor "mask" has dtype BOOL/);
    expect(() => file.readF32("q")).toThrow(/tensor "q" has dtype F8_E4M3/);
    expect(() => file.readF32("constructor")).toThrow(/tensor "constructor" is missing/);
  });

  it("says so when it becomes shorter while it is open, and when it is closed", () => {
    const path = writeSafetensors(join(temporaryFolder(), "x"), { w: entry("F32", [4], 0, 16) }, new Uint8Array(16));
    const file = openSafetensors(path);
    truncateSync(path, 60);
    expect(() => file.readF32("w")).toThrow(/became shorter/);
    file.close();
    file.close();
    expect(() => file.readF32("w")).toThrow(/closed/);
  });
});

describe("reading as f32", () => {
  it("widens every binary16 value exactly", () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const found = widened("F16", halves);
    for (const [half, value] of found.entries()) {
      const [sign, exponent, mantissa] = [half >> 15 ? -1 : 1, (half >> 10) & 31, half & 1023];
      const special = mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
      const finite = exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1024 + mantissa) * 2 ** (exponent - 25);
      const expected = exponent === 31 ? special : finite;
      if (!Object.is(value, expected)) expect.fail(`0x${half.toString(16)}: ${value} instead of ${expected}`);
    }
  });

  it("widens bfloat16 to the f32 of the same upper bits: subnormals, infinities, NaN, signed zero", () => {
    const halves = Uint16Array.of(0x3f80, 0xc020, 0x0001, 0x8001, 0x7f80, 0xff80, 0x7fc1, 0x0000, 0x8000, 0x7f7f);
    const found = widened("BF16", halves);
    expect([...new Uint32Array(found.buffer)]).toEqual([...halves].map((half) => half * 65536));
    expect([...found.slice(0, 2)]).toEqual([1, -2.5]);
    expect(found[2]).toBe(2 ** -133);
    expect(found[6]).toBeNaN();
  });

  it("narrows F64", () => {
    const data = Float64Array.from({ length: 70_000 }, (_, i) => Math.sin(i) * 1e3);
    const path = join(temporaryFolder(), "x.safetensors");
    const header = { w: entry("F64", [700, 100], 0, data.byteLength) };
    using file = openSafetensors(writeSafetensors(path, header, new Uint8Array(data.buffer)));
    expect(file.readF32("w")).toEqual(Float32Array.from(data));
    expect(file.readF32("w", 69_990, 10)).toEqual(Float32Array.from(data.slice(69_990)));
  });

  it("gives the same piece by piece as at once, from every dtype", () => {
    // The upper bytes of ordinary doubles are ordinary numbers in every dtype.
    const bytes = new Uint8Array(Float64Array.from({ length: 1001 }, (_, i) => Math.sin(i)).buffer).map(
      (byte) => byte & 0x3f,
    );
    for (const [dtype, size] of [
      ["F32", 4],
      ["F16", 2],
      ["BF16", 2],
      ["F64", 8],
    ] as const) {
      const path = join(temporaryFolder(), "x.safetensors");
      const header = { pad: entry("U8", [3], 0, 3), w: entry(dtype, [1001], 3, 3 + size * 1001) };
      const data = Buffer.concat([Buffer.from([1, 2, 3]), bytes.subarray(0, size * 1001)]);
      using file = openSafetensors(writeSafetensors(path, header, data));
      const whole = file.readF32("w");
      const pieces: number[] = [];
      for (let start = 0; start < 1001; start += 77)
        pieces.push(...file.readF32("w", start, Math.min(77, 1001 - start)));
      expect(pieces, dtype).toEqual([...whole]);
      expect(new Set(whole).size, dtype).toBeGreaterThan(100);
      expect([...file.readF32("w", 1000)], dtype).toEqual([whole[1000]]);
      expect(file.readF32("w", 1001, 0), dtype).toHaveLength(0);
      const buffer = new Float32Array(100).fill(-1);
      file.readF32Into("w", 500, buffer.subarray(3, 90));
      expect([...buffer.slice(3, 90)], dtype).toEqual([...whole.slice(500, 587)]);
      expect([...buffer.slice(0, 3), ...buffer.slice(90)], dtype).toEqual(Array(13).fill(-1));
      expect(() => file.readF32Into("w", 950, buffer), dtype).toThrow(RangeError);
      for (const [start, count] of [
        [0, 1002],
        [-1, 1],
        [1001, 1],
        [0.5, 1],
        [0, -1],
      ] as const)
        expect(() => file.readF32("w", start, count), dtype).toThrow(RangeError);
    }
  });
});
