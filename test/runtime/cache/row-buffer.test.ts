import { describe, expect, it, vi } from "vitest";
import { RowBuffer } from "../../../runtime/cache/row-buffer.js";
import { CPU, type Device } from "../../../runtime/ort/device.js";
import { OrtError } from "../../../runtime/ort/library.js";
import { Tensor } from "../../../runtime/ort/tensor.js";
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

  it.each([
    { from: shape(2, 4), to: shape(1, 8) },
    { from: shape(2, 8), to: shape(4, 4) },
  ])("keeps rows where its memory has the right size but is divided otherwise: $from, $to", ({ from, to }) => {
    using buffer = new RowBuffer(counting(device).device, "float32");
    buffer.resize(from).settle(0);
    buffer.tensor.write(Array.from({ length: buffer.tensor.size }, (_, i) => i + 1));
    const rows = Math.min(from[0] ?? 0, to[0] ?? 0);
    const [before, length] = [slotsOf(buffer, rows), (to[2] ?? 0) * HEAD_DIM];
    buffer.resize(to).settle(rows);
    const added = Array<number>(length).fill(0);
    expect(slotsOf(buffer, rows)).toEqual(before.map((values) => [...values, ...added].slice(0, length)));
  });
});

it("a device is asked for one copy, however many heads a buffer has, into memory that is zeroed", () => {
  using buffer = new RowBuffer(FAR_CPU, "float32");
  buffer.resize(shape(4, 4)).settle(0);
  const resizing = buffer.resize(shape(4, 9));
  const [copies, fills] = [vi.spyOn(Tensor.prototype, "copyStretches"), vi.spyOn(Tensor.prototype, "fill")];
  resizing.settle(3);
  expect([copies.mock.calls.length, fills.mock.calls.length]).toEqual([1, 0]);
  vi.restoreAllMocks();
});

it("a buffer knows the bytes that it takes to grow: what is added where it stays, all where it is copied", () => {
  using buffer = new RowBuffer(CPU, "float32");
  expect(buffer.bytesToResize(shape(1, 4))).toBe(4 * 24);
  buffer.resize(shape(1, 4)).settle(0);
  const bytes = [shape(1, 4), shape(2, 4), shape(2, 8), shape(2, 9), shape(1, 3)].map((to) => buffer.bytesToResize(to));
  expect(bytes).toEqual([0, 4 * 24, 4 * 72, 4 * 108, 4 * 18]);
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
