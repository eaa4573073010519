import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packSnapshot, unpackSnapshot } from "../../../runtime/cache/snapshot.js";
import { SnapshotError, type SnapshotProblem } from "../../../runtime/contract/errors.js";

const HEADER = { name: "a row", window: Number.POSITIVE_INFINITY, sizes: [1, 2.5, -3], none: null, left: undefined };
const PAYLOAD = Uint8Array.from({ length: 200 }, (_, i) => i);
const packed = (): Uint8Array => packSnapshot(HEADER, PAYLOAD.length, (payload) => payload.set(PAYLOAD));

/** What is wrong with it; null: nothing. */
function problemOf(bytes: Uint8Array): SnapshotProblem | null {
  try {
    unpackSnapshot(bytes);
    return null;
  } catch (error) {
    if (error instanceof SnapshotError) return error.problem;
    throw error;
  }
}

/** With the byte at `at` replaced. */
const replaced = (bytes: Uint8Array, at: number, byte: number): Uint8Array => bytes.slice().fill(byte, at, at + 1);

it("header and payload come back as they went in", () => {
  const { header, payload } = unpackSnapshot(packed());
  const { left: _, ...kept } = HEADER;
  expect(header).toEqual(kept);
  expect(payload).toEqual(PAYLOAD);
});

it("wherever the bytes lie in memory", () => {
  const bytes = packed();
  for (const shift of [1, 3, 8]) {
    const moved = new Uint8Array(bytes.length + shift);
    moved.set(bytes, shift);
    expect(unpackSnapshot(moved.subarray(shift)).payload).toEqual(PAYLOAD);
  }
  expect(unpackSnapshot(Buffer.from(bytes)).header).toMatchObject({ name: "a row" });
});

it("the same state has the same bytes", () => {
  expect(packed()).toEqual(packed());
});

describe("what is no snapshot is refused with a sentence", () => {
  const bytes = packed();
  it.each<[string, Uint8Array, SnapshotProblem, RegExp]>([
    ["no bytes", new Uint8Array(), "foreign", /are no snapshot/],
    ["a few bytes of one", bytes.slice(0, 10), "foreign", /are no snapshot/],
    ["text", new TextEncoder().encode("{}".repeat(50)), "foreign", /are no snapshot/],
    ["another version", replaced(bytes, 8, 7), "version", /is of version 7, and this build reads version 2$/],
    ["one that was cut off", bytes.slice(0, -1), "damaged", /should have \d+ bytes, and has \d+$/],
    ["one with bytes behind it", new Uint8Array([...bytes, 0]), "damaged", /should have/],
    ["a header longer than the whole", replaced(bytes, 14, 255), "damaged", /should have/],
    ["a payload longer than can be", replaced(bytes, 23, 255), "damaged", /should have/],
    ["a payload with a flipped bit", replaced(bytes, bytes.length - 40, 0), "damaged", /its checksum differs$/],
    [
      "a checksum with a flipped bit",
      replaced(bytes, bytes.length - 1, (bytes.at(-1) ?? 0) ^ 1),
      "damaged",
      /checksum/,
    ],
  ])("%s", (_, wrong, problem, sentence) => {
    expect(problemOf(wrong)).toBe(problem);
    expect(() => unpackSnapshot(wrong)).toThrow(sentence);
  });

  it("any byte that is changed, and any cut", () => {
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        expect(problemOf(replaced(bytes, at, (bytes[at] ?? 0) ^ change))).not.toBeNull();
        expect(problemOf(bytes.slice(0, at))).not.toBeNull();
      }),
    );
  });

  it("any other bytes", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (other) => void expect(problemOf(other)).toBe("foreign")));
  });
});

it("one that no array can hold is refused before there is memory for it", () => {
  const refused = () => packSnapshot({}, 2 ** 40, () => {});
  expect(refused).toThrow(/^a snapshot of \d+ bytes is more than/);
  expect(refused).toThrow(SnapshotError);
});
