import { describe, expect, it } from "vitest";
import { decodeKvRanges, encodeKvRanges } from "../../../models/keys-values/kv-ranges.js";

const shape = { layers: 2, kvHeads: 1, headDim: 2 };
const ranges = {
  keys: [Float32Array.of(1, 2), Float32Array.of(3, 4)],
  values: [Float32Array.of(0.5, 6), Float32Array.of(7, 1e-9)],
};

describe("ranges of keys and values on the disk", () => {
  const bytes = encodeKvRanges(ranges);

  it("come back as they were", () => {
    expect(decodeKvRanges(bytes, shape)).toEqual(ranges);
    const inLarger = new Uint8Array(bytes.length + 3);
    inLarger.set(bytes, 3);
    expect(decodeKvRanges(inLarger.subarray(3), shape)).toEqual(ranges);
  });

  it.each([
    ["that was cut", bytes.subarray(0, bytes.length - 1)],
    ["of a model with more layers", new Uint8Array([...bytes, ...bytes])],
    ["of nothing", new Uint8Array()],
    ["of zeros, which nothing can be divided by", new Uint8Array(bytes.length)],
    ["of NaN", new Uint8Array(bytes.length).fill(0xff)],
    ["with a negative range", bytes.map((byte, i) => (i === 3 ? byte | 0x80 : byte))],
  ])("are not taken from a file %s", (_, damaged) => {
    expect(decodeKvRanges(damaged, shape)).toBeNull();
  });
});
