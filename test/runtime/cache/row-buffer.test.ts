import { describe, expect, it } from "vitest";
import { RowBuffer } from "../../../runtime/cache/row-buffer.js";
import { CPU, type Device } from "../../../runtime/ort/device.js";
import { OrtError } from "../../../runtime/ort/library.js";
import { FAR_CPU } from "../ort/far-cpu.js";

const HEADS = 2;
const HEAD_DIM = 3;
const shape = (rows: number, slots: number): number[] => [rows, HEADS, slots, HEAD_DIM];

/** The slots of each head of the first rows. */
function slotsOf({ tensor }: RowBuffer, rows: number): number[][] {
  const values = [...tensor.read(new Float32Array(tensor.size))];
  const length = (tensor.shape[2] ?? 0) * HEAD_DIM;
  return Array.from({ length: rows * HEADS }, (_, i) => values.slice(i * length, (i + 1) * length));
}

/** A device that keeps count of the memory asked for, and has so much of it. */
function counting(device: Device, most = Number.POSITIVE_INFINITY): { readonly device: Device; asked: number[] } {
  const asked: number[] = [];
  return {
    asked,
    device: {
      ...device,
      untouched: (type, [elements = 0]) => {
        if (elements > most) throw new OrtError(6, "allocation failed");
        asked.push(elements);
        const tensor = CPU.untouched(type, [elements]);
        tensor.fill(Number.NaN); // whatever lies there
        return tensor;
      },
    },
  };
}

describe.each([
  { where: "in the host's memory, where there is room", device: CPU },
  { where: "elsewhere", device: FAR_CPU },
])("a buffer $where", ({ device }) => {
  it("keeps rows through all sizes, and new slots are zeros", () => {
    using buffer = new RowBuffer(counting(device).device, "float32");
    buffer.resize(shape(2, 4)).settle(0);
    buffer.tensor.write(Array.from({ length: 2 * HEADS * 4 * HEAD_DIM }, (_, i) => i + 1));
    const kept = slotsOf(buffer, 2);
    const sizes = [shape(2, 5), shape(3, 5), shape(4, 9), shape(4, 40), shape(6, 41), shape(2, 7), shape(2, 30)];
    for (const size of sizes) {
      buffer.resize(size).settle(2);
      const added = Array<number>(((size[2] ?? 0) - 4) * HEAD_DIM).fill(0);
      expect(slotsOf(buffer, 2)).toEqual(kept.map((values) => [...values, ...added]));
    }
    buffer.resize(shape(1, 2)).settle(1);
    expect(slotsOf(buffer, 1)).toEqual(kept.slice(0, HEADS).map((values) => values.slice(0, 2 * HEAD_DIM)));
  });
});

it("a buffer grows where it lies while there is room, and gives memory back when it shrinks", () => {
  const memory = counting(CPU);
  using buffer = new RowBuffer(memory.device, "float32");
  for (const [rows, slots] of [
    [1, 4],
    [2, 4],
    [3, 5],
    [4, 5],
    [1, 4],
  ] as const)
    buffer.resize(shape(rows, slots)).settle(1);
  expect(memory.asked).toEqual([4 * 24, 4 * 120, 4 * 24]);
});

it("a buffer has no room where memory is short, and stays as it is where there is none", () => {
  const memory = counting(CPU, 100);
  using buffer = new RowBuffer(memory.device, "float32");
  buffer.resize(shape(2, 4)).settle(0);
  expect(memory.asked).toEqual([48]);
  buffer.tensor.fill(7);
  expect(() => buffer.resize(shape(2, 9))).toThrow("allocation failed");
  buffer.resize(shape(2, 8)).discard();
  expect(buffer.tensor.shape).toEqual(shape(2, 4));
  expect(slotsOf(buffer, 2).flat()).toEqual(Array(48).fill(7));
});
