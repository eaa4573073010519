import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { PLAIN_8, plain8 } from "../../../models/weights/block-format.js";
import { openCheckpoint } from "../../../models/weights/checkpoint.js";
import { dequantiseRows, quantiseRows } from "../../../models/weights/quantise.js";
import { WeightPlan } from "../../../models/weights/weight-plan.js";
import { writeWeights } from "../../../models/weights/weights-file.js";
import { maxDifference } from "../../golden-tensors.js";
import { randomWeights, writeTensors } from "../random-model.js";
import { temporaryFolder } from "./write-safetensors.js";

describe("a matrix in 8 bit", () => {
  it.each([
    [3, 64, 32],
    [5, 100, 32],
    [2, 31, 32],
    [3, 192, 64],
  ])("of [%i, %i] is at most half a step of its block of %i away from what it was", (rows, columns, size) => {
    const values = randomWeights(rows * columns, 1);
    values.fill(0.001, 0, 20); // a block whose weights are small has small steps
    const quantised = quantiseRows(values, rows, columns, size);
    const found = dequantiseRows(quantised, rows, columns, size);
    const blocks = Math.ceil(columns / size);
    expect(quantised.scales).toHaveLength(rows * blocks);
    for (const [i, value] of values.entries()) {
      const step = quantised.scales[Math.floor(i / columns) * blocks + Math.floor((i % columns) / size)] ?? 0;
      expect(Math.abs((found[i] ?? Number.NaN) - value)).toBeLessThanOrEqual(step * 0.5001);
    }
  });

  it("keeps the largest weight of a block, of either sign, and zero, exactly", () => {
    const values = Float32Array.from({ length: 64 }, (_, i) => (i < 32 ? i / 31 : -(i - 32) / 31));
    const found = dequantiseRows(quantiseRows(values, 1, 64), 1, 64);
    for (const i of [0, 31, 32, 63]) expect(found[i]).toBeCloseTo(values[i] ?? Number.NaN, 6);
  });

  it("is zero where the block is zero, and beyond the end of a row", () => {
    const { data, scales } = quantiseRows(new Float32Array(2 * 40), 2, 40);
    expect([...scales]).toEqual([0, 0, 0, 0]);
    expect(data.every((byte) => byte === 128)).toBe(true);
    const rest = quantiseRows(new Float32Array(40).fill(-1), 1, 40).data;
    expect([...rest.subarray(0, 40)]).toEqual(new Array(40).fill(1));
    expect([...rest.subarray(40)]).toEqual(new Array(24).fill(128));
  });

  it("has blocks on a CPU that are of 64 where they fill its rows, and of 32 on a GPU", () => {
    expect([96, 576].map((columns) => plain8(columns, "cpu").size)).toEqual([32, 64]);
    expect(plain8(576, "cuda")).toEqual(PLAIN_8);
  });
});

describe("matrices that are multiplied with the same input", () => {
  // 1,500,000 weights: read in pieces of rows, the last of them not full.
  const [columns, outs] = [1500, [700, 1, 299]];
  const tensors = outs.map((out, i) => ({
    name: `m${i}`,
    shape: [out, columns],
    values: randomWeights(out * columns, i + 1),
  }));
  const stacked = Float32Array.from(tensors.flatMap(({ values }) => [...values]));
  const parts = tensors.map(({ name, shape }) => ({ tensor: name, shape }));

  async function written(
    fill: (plan: WeightPlan) => void,
  ): Promise<{ plan: WeightPlan; bytes: Buffer; shares: number[] }> {
    const folder = temporaryFolder();
    writeTensors(join(folder, "model.safetensors"), tensors);
    const plan = new WeightPlan();
    fill(plan);
    const shares: number[] = [];
    using checkpoint = openCheckpoint(folder);
    await writeWeights(join(folder, "weights.bin"), plan, checkpoint, (share) => shares.push(share));
    return { plan, bytes: readFileSync(join(folder, "weights.bin")), shares };
  }

  it("lie one below the other in 8 bit, with their scales", async () => {
    const { plan, bytes, shares } = await written((to) => to.blocks("all", parts, columns, PLAIN_8, null));
    const [data, scales] = ["all", "all.scales"].map((name) => plan.places.get(name));
    const want = quantiseRows(stacked, 1000, columns);
    expect(bytes.subarray(data?.offset, (data?.offset ?? 0) + want.data.length).equals(want.data)).toBe(true);
    expect(maxDifference(floats(bytes, scales?.offset, want.scales.length), want.scales)).toBe(0);
    expect(bytes.length).toBe(plan.bytes);
    expect(shares.at(-1)).toBe(1);
  });

  it.each([1, 4])("lie side by side in f32, transposed, %i times over", async (times) => {
    const repeated = Array.from({ length: times }, () => parts).flat();
    const { plan, bytes, shares } = await written((to) => to.transposed("all", repeated, columns, "float32"));
    const width = times * 1000;
    const found = floats(bytes, plan.places.get("all")?.offset, times * stacked.length);
    const want = Float32Array.from(
      found,
      (_, i) => stacked[((i % width) % 1000) * columns + Math.floor(i / width)] ?? Number.NaN,
    );
    expect(maxDifference(found, want)).toBe(0);
    expect(shares.at(-1)).toBe(1);
  });
});

const floats = (bytes: Buffer, offset = 0, length = 0): Float32Array =>
  new Float32Array(bytes.buffer.slice(bytes.byteOffset + offset, bytes.byteOffset + offset + 4 * length));
