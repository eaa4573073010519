import { describe, expect, it } from "vitest";
import {
  halfPrecisionBytes,
  narrowBF16,
  narrowF16,
  widenBF16,
  widenF16,
} from "../../../models/weights/half-precision.js";

const ALL = Uint16Array.from({ length: 65536 }, (_, half) => half);
const FORMATS = [
  { type: "binary16", narrow: narrowF16, widen: widenF16, infinity: 0x7c00 },
  { type: "bfloat16", narrow: narrowBF16, widen: widenBF16, infinity: 0x7f80 },
] as const;

const widened = (halves: Uint16Array, widen: (out: Float32Array) => void): Float32Array => {
  const out = new Float32Array(halves.length);
  halfPrecisionBytes(out).set(new Uint8Array(halves.buffer));
  widen(out);
  return out;
};
const narrowed = (values: readonly number[], narrow: (values: Float32Array, out: Uint16Array) => void): number[] => {
  const out = new Uint16Array(values.length);
  narrow(Float32Array.from(values), out);
  return [...out];
};

describe.each(FORMATS)("f32 to $type", ({ narrow, widen, infinity }) => {
  const values = widened(ALL, widen);
  const noNumber = (half: number) => (half & 0x7fff) > infinity;

  it("gives every number of the type back, and NaN for NaN", () => {
    const back = new Uint16Array(ALL.length);
    narrow(values, back);
    const numbers = ALL.filter((half) => !noNumber(half));
    expect(numbers.filter((half) => back[half] !== half)).toEqual(new Uint16Array(0));
    expect(ALL.filter((half) => noNumber(half) && !noNumber(back[half]!))).toEqual(new Uint16Array(0));
  });

  it("rounds what lies between two neighbours to the nearer, and the middle to the even one", () => {
    const wrong: number[] = [];
    for (let half = 0; half < infinity - 1; half++) {
      const [low, high] = [values[half]!, values[half + 1]!];
      const middle = (low + high) / 2; // exact in f64, and in f32 but for the smallest bfloat16 numbers
      if (Math.fround(middle) !== middle) continue;
      const bits = new Uint32Array(Float32Array.of(middle).buffer)[0]!;
      const [below = 0, above = 0] = new Float32Array(Uint32Array.of(bits - 1, bits + 1).buffer);
      const [down = 0, tie = 0, up = 0] = narrowed([below, middle, above], narrow);
      if (down !== half || tie !== half + (half & 1) || up !== half + 1) wrong.push(half);
      const [negative] = narrowed([-middle], narrow);
      if (negative !== (tie | 0x8000)) wrong.push(-half);
    }
    expect(wrong).toEqual([]);
  });
});

it("what is too large for binary16 becomes infinity, what is too small zero, both with their sign", () => {
  expect(narrowed([65504, 65519, 65520, -65520, 1e38, -3e38, Number.POSITIVE_INFINITY], narrowF16)).toEqual([
    0x7bff, 0x7bff, 0x7c00, 0xfc00, 0x7c00, 0xfc00, 0x7c00,
  ]);
  expect(narrowed([2 ** -24, 2 ** -25, -(2 ** -25), 1e-40], narrowF16)).toEqual([1, 0, 0x8000, 0]);
});

it("bfloat16 has the range of f32", () => {
  const [hidden = 0] = widened(Uint16Array.from(narrowed([-3e38], narrowBF16)), widenBF16);
  expect(Math.abs(hidden / -3e38 - 1)).toBeLessThan(2 ** -8);
  expect(narrowed([3.4e38], narrowBF16)).toEqual([0x7f80]);
});
