import { freemem, totalmem } from "node:os";
import { describe, expect, it } from "vitest";
import { roomFor } from "../../../runtime/ort/available-memory.js";
import type { ElementType } from "../../../runtime/ort/elements.js";
import { OrtError } from "../../../runtime/ort/library.js";
import { Tensor } from "../../../runtime/ort/tensor.js";

const floats = (...values: number[]): Tensor => {
  const tensor = Tensor.zeros("float32", [values.length]);
  tensor.write(values);
  return tensor;
};
const contents = (tensor: Tensor): number[] => [...tensor.read(new Float32Array(tensor.size))];

describe("what is written is what is read", () => {
  it("at an offset, and the rest stays as it was", () => {
    using tensor = Tensor.zeros("float32", [2, 3]);
    tensor.write([1, 2], 3);
    tensor.write(Float32Array.of(3), 5);
    tensor.fill(-1, 1, 1);
    expect(contents(tensor)).toEqual([0, -1, 0, 1, 2, 3]);
    expect([...tensor.read(new Float32Array(2), 4)]).toEqual([2, 3]);
  });

  it("copied between tensors, also within one to places that overlap", () => {
    using source = floats(1, 2, 3, 4);
    using target = Tensor.zeros("float32", [2, 2]);
    target.copyFrom(source, 1, 2, 2);
    expect(contents(target)).toEqual([0, 0, 2, 3]);
    source.copyFrom(source, 0, 1, 3);
    expect(contents(source)).toEqual([1, 1, 2, 3]);
  });

  it("as bytes, whatever the elements are", () => {
    for (const type of ["float32", "float16", "bfloat16", "uint8"] as const) {
      using source = Tensor.zeros(type, [40]);
      source.write(Array.from({ length: 40 }, (_, i) => i));
      using target = Tensor.zeros(type, [40]);
      const bytes = new Uint8Array((30 * source.bytes) / 40);
      source.readBytes(bytes, 10);
      target.writeBytes(bytes, 5);
      const again = new Uint8Array(bytes.length);
      target.readBytes(again, 5);
      expect(again).toEqual(bytes);
      expect(new Set(bytes).size).toBeGreaterThan(5);
      expect(() => source.readBytes(bytes, 11)).toThrow(RangeError);
      expect(() => target.writeBytes(bytes, 11)).toThrow(RangeError);
    }
    using halves = Tensor.zeros("float16", [40]);
    expect(() => halves.readBytes(new Uint8Array(3))).toThrow(RangeError);
  });

  it("in stretches, which are moved and counted, and what lies between them stays", () => {
    using tensor = Tensor.zeros("int8", [2, 8]);
    tensor.write([1, -1, 0, 0, 0, 0, 5, 5, 2, -128, 0, 0, 0, 0, 5, 5]);
    tensor.moveStretches(2, 2, 8, 0, 4);
    const bytes = new Uint8Array(16);
    tensor.readBytes(bytes);
    expect([...new Int8Array(bytes.buffer)]).toEqual([1, -1, 0, 0, 1, -1, 5, 5, 2, -128, 0, 0, 2, -128, 5, 5]);
    const table = new Uint8Array(256);
    [table[255], table[128], table[5]] = [1, 10, 100];
    expect(tensor.tally(table, 2, 2, 8, 4)).toBe(11);
    expect(tensor.tally(table, 1, 16, 16, 0)).toBe(422);
    expect(() => tensor.moveStretches(2, 2, 8, 0, 7)).toThrow(RangeError);
    expect(() => tensor.moveStretches(2, 9, 8, 0, 0)).toThrow(RangeError);
    expect(() => tensor.tally(table, 2, 2, 8, 7)).toThrow(RangeError);
  });

  it("through an alias of a part, which outlives its tensor", () => {
    const whole = floats(1, 2, 3, 4, 5, 6);
    using part = whole.alias([2, 2], 2);
    whole.fill(9, 2, 1);
    whole[Symbol.dispose]();
    expect(contents(part)).toEqual([9, 4, 5, 6]);
  });

  it("in a tensor without elements and in one without dimensions", () => {
    using none = Tensor.zeros("int64", [3, 0]);
    none.write([]);
    none.fill(7);
    expect([none.size, none.bytes]).toEqual([0, 0]);
    using one = Tensor.zeros("float32", []);
    one.write([5]);
    expect(contents(one)).toEqual([5]);
  });
});

describe.each([
  { type: "float16", step: 2 ** -10 },
  { type: "bfloat16", step: 2 ** -7 },
] as const)("a tensor of $type", ({ type, step }) => {
  it("rounds what is written, and reads as f32", () => {
    using tensor = Tensor.zeros(type, [2, 3]);
    tensor.write([1 + step / 2, 1 + 1.5 * step], 1);
    tensor.write(Float32Array.of(-2 - 1.2 * step), 3);
    tensor.fill(0.1, 4, 1);
    const [a, b, c, d, e, f] = contents(tensor);
    expect([a, b, c, d, f]).toEqual([0, 1, 1 + 2 * step, -2 - 2 * step, 0]);
    expect(Math.abs(e! - 0.1)).toBeLessThan(0.1 * step);
    expect([...tensor.read(new Float32Array(2), 1)]).toEqual([1, 1 + 2 * step]);
    tensor.fill(0);
    expect(contents(tensor)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it("has two bytes an element, copied as they are", () => {
    using source = Tensor.zeros(type, [4]);
    source.write([1, Number.NaN, Number.NEGATIVE_INFINITY, 4]);
    using target = Tensor.zeros(type, [2, 4]);
    target.copyFrom(source, 1, 5, 3);
    expect([target.bytes, contents(target)]).toEqual([16, [0, 0, 0, 0, 0, Number.NaN, Number.NEGATIVE_INFINITY, 4]]);
    using part = target.alias([2], 6);
    expect(contents(part)).toEqual([Number.NEGATIVE_INFINITY, 4]);
    using other = floats(1);
    expect(() => target.copyFrom(other, 0, 0, 1)).toThrow(TypeError);
  });

  it("is not written or read outside of its memory", () => {
    using tensor = Tensor.zeros(type, [4]);
    expect(() => tensor.write([1, 2], 3)).toThrow(RangeError);
    expect(() => tensor.read(new Float32Array(2), 3)).toThrow(RangeError);
    expect(() => tensor.fill(1, 3, 2)).toThrow(RangeError);
  });
});

describe("a tensor is never read or written outside of its memory", () => {
  const four = floats(1, 2, 3, 4);
  const integers = Tensor.zeros("int64", [2]);
  const other = Tensor.zeros("float32", [8]);
  it.each<[string, () => unknown]>([
    ["written behind its end", () => four.write([1, 2], 3)],
    ["written before its beginning", () => four.write([1], -1)],
    ["written at half an element", () => four.write([1], 0.5)],
    ["written at no number", () => four.write([1], Number.NaN)],
    ["written integers behind its end", () => integers.write([1, 2, 3])],
    ["read behind its end", () => four.read(new Float32Array(3), 2)],
    ["read before its beginning", () => four.read(new Float32Array(1), -2)],
    ["filled behind its end", () => four.fill(0, 2, 3)],
    ["filled with fewer than no elements", () => four.fill(1, 2, -1)],
    ["copied from behind the end of the source", () => other.copyFrom(four, 3, 0, 2)],
    ["copied to behind the end of the target", () => four.copyFrom(other, 0, 3, 2)],
    ["copied from before the beginning", () => four.copyFrom(other, -1, 0, 1)],
    ["copied so many that no memory holds them", () => four.copyFrom(other, 0, 0, Number.MAX_SAFE_INTEGER)],
  ])("%s", (_, act) => {
    const elements = /elements .* are not all in tensor (float32|int64)\[\d\]/;
    expect(act).toThrow(RangeError);
    expect(act).toThrow(elements);
    expect(contents(four)).toEqual([1, 2, 3, 4]);
  });

  it.each<[string, () => unknown]>([
    ["behind the end", () => four.alias([2], 3)],
    ["before the beginning", () => four.alias([1], -1)],
    ["at half an element", () => four.alias([1], 0.5)],
    ["at no number", () => four.alias([1], Number.NaN)],
  ])("aliased %s", (_, act) => {
    expect(act).toThrow(/float32\[\d\] at byte .* does not/);
  });
});

describe("what is no tensor is refused, and the process lives", () => {
  it.each<[readonly number[]]>([[[-1]], [[1.5]], [[Number.NaN]], [[2 ** 50]], [[2 ** 30, 2 ** 30]]])(
    "shape %j",
    (shape) => {
      expect(() => Tensor.zeros("float32", shape)).toThrow("is no tensor shape");
    },
  );

  it.each<[readonly number[]]>([[[2 ** 40]], [[2 ** 49]], [[1024, 2 ** 34]]])("no memory for %j", (shape) => {
    expect(() => Tensor.zeros("float32", shape)).toThrow(OrtError);
    expect(() => Tensor.zeros("float32", shape)).toThrow(`allocating float32[${shape}]: the machine has no`);
  });

  it("no more than what is left, because the system would promise it and end the process that takes it", () => {
    expect(roomFor(totalmem() + 1)).toBe(false);
    if (process.platform === "linux") expect(roomFor(freemem() + 2 ** 30)).toBe(false);
    expect(roomFor(2 ** 20)).toBe(true);
  });

  it("a number that is no integer in a tensor of integers, which stays as it was", () => {
    using ids = Tensor.zeros("int64", [2]);
    expect(() => ids.write([1, 0.5])).toThrow(RangeError);
    expect(() => ids.write([1, Number.NaN])).toThrow(RangeError);
    expect(() => ids.read(new Float32Array(2))).toThrow("tensor int64[2] cannot be read as float32");
  });

  it.each<ElementType>(["int64", "int32", "uint8", "bool"])("a copy from float32 to %s", (type) => {
    using source = floats(1, 2);
    using target = Tensor.zeros(type, [2]);
    expect(() => target.copyFrom(source, 0, 0, 1)).toThrow(`tensor float32[2] cannot be copied to tensor ${type}[2]`);
  });
});

describe("after disposal a tensor is unusable", () => {
  it("for everything", () => {
    const gone = floats(1, 2);
    using other = floats(1, 2);
    gone[Symbol.dispose]();
    gone[Symbol.dispose]();
    const uses = [
      () => gone.pointer,
      () => gone.write([1]),
      () => gone.read(new Float32Array(1)),
      () => gone.fill(0),
      () => gone.fill(1),
      () => gone.alias([1]),
      () => gone.copyFrom(other, 0, 0, 1),
      () => other.copyFrom(gone, 0, 0, 1),
      () => gone.hold(),
    ];
    for (const use of uses) expect(use).toThrow("tensor float32[2] was used after it was disposed");
  });

  it("and cannot be freed by letting go of it once too often", () => {
    using tensor = floats(1);
    expect(() => tensor.letGo()).toThrow("let go of more often than it was held");
    tensor.hold();
    tensor.letGo();
    expect(() => tensor.letGo()).toThrow("let go of more often than it was held");
    expect(contents(tensor)).toEqual([1]);
  });
});
