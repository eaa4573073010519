import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { ModelFormatError } from "../../../models/errors.js";
import { readGgufHeader } from "../../../models/gguf/gguf-header.js";
import type { GgufArray, GgufValue } from "../../../models/gguf/metadata.js";
import { openTensorData } from "../../../models/gguf/tensor-data.js";
import { maxDifference } from "../../golden-tensors.js";
import { temporaryFolder, thrownBy } from "../weights/write-safetensors.js";
import { expectedOf, goldenGguf } from "./golden-gguf.js";
import { writeGguf } from "./write-gguf.js";

const Entry = z.object({ type: z.string(), of: z.string().optional(), value: z.unknown() });
const Expected = z.object({
  "types.gguf": z.record(z.string(), Entry),
  "nested-array.gguf": z.record(z.string(), Entry),
});
const expected = Expected.parse(JSON.parse(readFileSync(goldenGguf("metadata.json"), "utf8")));

/** A number as metadata.json writes it: 64-bit integers as text, floating-point numbers as their bits in hex. */
function written(type: string, value: number | bigint): unknown {
  if (typeof value === "bigint") return String(value);
  const view = new DataView(new ArrayBuffer(8));
  if (type === "bool") return value === 1;
  if (type === "float32") {
    view.setFloat32(0, value);
    return `0x${view.getUint32(0).toString(16).padStart(8, "0")}`;
  }
  if (type === "float64") {
    view.setFloat64(0, value);
    return `0x${view.getBigUint64(0).toString(16).padStart(16, "0")}`;
  }
  return value;
}

function elements(array: GgufArray): unknown[] {
  if (array.of === "array") return array.value.map((inner) => ({ of: inner.of, value: elements(inner) }));
  if (array.of === "string") return [...array.value];
  const { of } = array;
  return Array.from<number | bigint, unknown>(array.value, (value) => written(of, value));
}

function entry(value: GgufValue): unknown {
  if (value.type === "array") return { type: "array", of: value.of, value: elements(value) };
  return {
    type: value.type,
    value:
      typeof value.value === "number" || typeof value.value === "bigint"
        ? written(value.type, value.value)
        : value.value,
  };
}

describe("metadata of a GGUF file", () => {
  it.each(["types.gguf", "nested-array.gguf"] as const)("is read in order, every type at its limits: %s", (name) => {
    const found = [...readGgufHeader(goldenGguf(name)).metadata].map(([key, value]) => [key, entry(value)]);
    expect(found).toEqual(Object.entries(expected[name]));
  });
});

describe("tensors of a GGUF file", () => {
  it.each(["layout-32", "layout-64", "layout-1024", "version-2"])(
    "lie where alignment and version put them: %s",
    (name) => {
      const header = readGgufHeader(goldenGguf(`${name}.gguf`));
      const data = openTensorData(header);
      using want = expectedOf("layout");
      expect([...header.tensors.keys()].sort()).toEqual(want.names.sort());
      for (const [tensor, info] of header.tensors) {
        expect(info.shape, tensor).toEqual(want.shape(tensor));
        const values = new Float32Array(want.values(tensor).length);
        data.decode(tensor, info, 0, values);
        expect(values, tensor).toEqual(want.values(tensor));
      }
      data.close();
    },
  );

  it("are not looked for in a big-endian file, which is refused as one", () => {
    expect(() => readGgufHeader(goldenGguf("big-endian.gguf"))).toThrow(/big-endian/);
  });

  it("are refused where the file became shorter after its header was read", () => {
    const path = writeGguf(
      join(temporaryFolder(), "a.gguf"),
      {},
      {
        t: { type: "F32", dimensions: [16], data: new Uint8Array(64) },
      },
    );
    const header = readGgufHeader(path);
    const fd = openSync(path, "r+");
    ftruncateSync(fd, header.size - 8);
    closeSync(fd);
    const error = thrownBy(() => openTensorData(header));
    expect(error).toBeInstanceOf(ModelFormatError);
    expect(String(error)).toMatch(/has changed/);
  });
});

describe("counts that only a large file could hold", () => {
  it.each([
    [8, /promises 200000 tensors, more than any real one/],
    [16, /promises 200000 metadata entries, more than any real one/],
  ])("are refused before anything is read: at byte %i", (at, reason) => {
    const bytes = Buffer.alloc(8_000_000);
    bytes.write("GGUF\x03", "latin1");
    bytes.writeBigUInt64LE(200_000n, at);
    const path = join(temporaryFolder(), "a.gguf");
    writeFileSync(path, bytes);
    expect(() => readGgufHeader(path)).toThrow(reason);
  });
});

describe("a large vocabulary", () => {
  it("crosses the window that is read at a time without losing a string", () => {
    const tokens = Array.from({ length: 120_000 }, (_, id) => `token-${id}-${"é".repeat(id % 13)}`);
    const long = "x".repeat(3_000_000);
    const scores = Float32Array.from({ length: 300_000 }, (_, i) => i);
    const path = writeGguf(join(temporaryFolder(), "a.gguf"), { tokens, long, scores, after: "end" });
    const { metadata } = readGgufHeader(path);
    const found = metadata.get("tokens");
    expect(found?.type === "array" && found.of === "string" && found.value.join("\n") === tokens.join("\n")).toBe(true);
    expect(metadata.get("long")?.value === long).toBe(true);
    const numbers = metadata.get("scores");
    expect(numbers?.type === "array" && numbers.of === "float32" && maxDifference(numbers.value, scores)).toBe(0);
    expect(metadata.get("after")?.value).toBe("end");
  });
});
