import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ModelFormatError } from "../../../models/errors.js";
import type { ActivationType } from "../../../models/onnx/graph.js";
import {
  activationsOf,
  type Machine,
  type Precision,
  precisionProblem,
  resolvePrecision,
} from "../../../models/weights/block-format.js";
import { openCheckpoint } from "../../../models/weights/checkpoint.js";
import { WeightPlan } from "../../../models/weights/weight-plan.js";
import { writeWeights } from "../../../models/weights/weights-file.js";
import { temporaryFolder, writeSafetensors } from "./write-safetensors.js";

/** A folder with one matrix [rows, columns] of 16-bit numbers, or of f32. */
function stored(dtype: "F16" | "BF16" | "F32", [rows, columns]: readonly [number, number], data: Uint8Array): string {
  const folder = temporaryFolder();
  const header = { m: { dtype, shape: [rows, columns], data_offsets: [0, data.byteLength] } };
  writeSafetensors(join(folder, "model.safetensors"), header, data);
  return folder;
}

/** The weights file's bytes of what `fill` plans, as 16-bit numbers. */
async function written(folder: string, fill: (plan: WeightPlan) => { readonly bytes: number }): Promise<Uint16Array> {
  const plan = new WeightPlan();
  const { bytes } = fill(plan);
  using checkpoint = openCheckpoint(folder);
  await writeWeights(join(folder, "weights.bin"), plan, checkpoint, () => {});
  const file = readFileSync(join(folder, "weights.bin"));
  return new Uint16Array(file.buffer.slice(file.byteOffset, file.byteOffset + bytes));
}

const bytesOf = (array: Uint16Array | Float32Array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

describe.each<{ dtype: "F16" | "BF16"; type: ActivationType; infinity: number }>([
  { dtype: "F16", type: "float16", infinity: 0x7c00 },
  { dtype: "BF16", type: "bfloat16", infinity: 0x7f80 },
])("a checkpoint in $dtype", ({ dtype, type, infinity }) => {
  // Every finite number of the type, subnormal ones and both zeros included.
  const numbers = Uint16Array.from({ length: 65536 }, (_, half) => half).filter((half) => (half & 0x7fff) < infinity);
  const shape = [numbers.length / 64, 64] as const;

  it("is kept in its own type bit for bit", async () => {
    const folder = stored(dtype, shape, bytesOf(numbers));
    expect(await written(folder, (plan) => plan.plain("m", { tensor: "m", shape }, type))).toEqual(numbers);
  });

  it("is kept so as columns, too", async () => {
    const folder = stored(dtype, shape, bytesOf(numbers));
    const parts = [{ tensor: "m", shape }];
    const found = await written(folder, (plan) => plan.transposed("m", parts, 64, type));
    expect(found).toEqual(numbers.map((_, i) => numbers[(i % shape[0]) * 64 + Math.floor(i / shape[0])] ?? 0));
  });

  it("is kept so as columns of a matrix that is turned a panel at a time", async () => {
    const [rows, columns] = [3001, 1500]; // more than one panel
    const large = Uint16Array.from({ length: rows * columns }, (_, i) => numbers[(i * 7) % numbers.length] ?? 0);
    const folder = stored(dtype, [rows, columns], bytesOf(large));
    const parts = [{ tensor: "m", shape: [rows, columns] }];
    const found = await written(folder, (plan) => plan.transposed("m", parts, columns, type));
    let wrong = 0;
    for (let i = 0; i < found.length; i++) if (found[i] !== large[(i % rows) * columns + Math.floor(i / rows)]) wrong++;
    expect([found.length, wrong]).toEqual([large.length, 0]);
  });
});

describe("numbers that float16 has no room for", () => {
  const values = Float32Array.of(1, -65519, 3, 65504);
  const refused = Float32Array.of(1, -65520, 3, 4);

  it("are refused with the tensor and the remedy", async () => {
    const folder = stored("F32", [2, 2], bytesOf(refused));
    const error = await written(folder, (plan) => plan.plain("m", { tensor: "m", shape: [2, 2] }, "float16")).catch(
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ModelFormatError);
    expect(String(error)).toMatch(/model\.safetensors.*beyond 65,504.* in m: take --precision bf16 or f32/);
  });

  it("are those that would become infinity, and no others", async () => {
    const folder = stored("F32", [2, 2], bytesOf(values));
    const found = await written(folder, (plan) => plan.plain("m", { tensor: "m", shape: [2, 2] }, "float16"));
    expect([...found]).toEqual([0x3c00, 0xfbff, 0x4200, 0x7bff]);
  });

  it("fit into bfloat16", async () => {
    const folder = stored("F32", [2, 2], bytesOf(refused));
    const found = await written(folder, (plan) => plan.plain("m", { tensor: "m", shape: [2, 2] }, "bfloat16"));
    expect([...found]).toEqual([0x3f80, 0xc780, 0x4040, 0x4080]);
  });
});

describe("the precision of a file's own", () => {
  const own = (dtypes: readonly string[], machine?: Machine) => resolvePrecision("auto", dtypes, machine);
  it.each<[string[], Precision, Precision]>([
    [["F32"], "f32", "f32"],
    [["BF16", "F32", "BF16"], "f32", "bf16"],
    [["F16", "F16", "F32", "BOOL"], "f32", "f16"],
    [["F32", "F32", "F32", "BF16"], "f32", "f32"],
    [["F32", "F16", "BOOL"], "f32", "f32"],
    [["F16", "BF16"], "f32", "bf16"],
    [["F16", "Q8_0"], "q8-block", "q8-block"],
    [["F32", "Q4_K", "Q6_K"], "q4", "q4"],
  ])("%j is %s on a CPU and %s on a GPU", (dtypes, onCpu, onGpu) => {
    expect([own(dtypes), own(dtypes, { device: "cpu" }), own(dtypes, { device: "cuda" })]).toEqual([
      onCpu,
      onCpu,
      onGpu,
    ]);
  });

  it("is f32 on a GPU that does not compute in bf16, and f16 where the file has that", () => {
    expect(own(["BF16", "BF16", "F32"], { device: "cuda", bfloat16: false })).toBe("f32");
    expect(own(["F16", "F16", "F32"], { device: "cuda", bfloat16: false })).toBe("f16");
    expect(precisionProblem("bf16", "cuda", false)).toMatch(/compute capability 8\.0: take --precision f16 or f32$/);
    expect(precisionProblem("bf16", "cpu")).toMatch(/add --device cuda/);
    expect([precisionProblem("bf16", "cuda"), precisionProblem("auto", "cpu")]).toEqual([null, null]);
  });

  it.each<[Precision, ActivationType]>([
    ["f32", "float32"],
    ["f16", "float16"],
    ["bf16", "bfloat16"],
    ["int8", "float32"],
    ["q8-block", "float32"],
    ["q4", "float32"],
  ])("%s computes in %s", (precision, type) => expect(activationsOf(precision)).toBe(type));
});
