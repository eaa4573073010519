import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { repackRows } from "../../../models/gguf/repack.js";
import { MatrixProducts } from "../../../models/matrix-products.js";
import { GraphBuilder, type Value } from "../../../models/onnx/graph.js";
import { type BlockFormat, heldFormat } from "../../../models/weights/block-format.js";
import type { WeightPart } from "../../../models/weights/weight-part.js";
import { WeightPlan } from "../../../models/weights/weight-plan.js";
import { writeWeights } from "../../../models/weights/weights-file.js";
import { Binding } from "../../../runtime/ort/binding.js";
import { Session } from "../../../runtime/ort/session.js";
import { Tensor } from "../../../runtime/ort/tensor.js";
import { openWeights } from "../../../runtime/ort/weights.js";
import { openTypes } from "../../models/gguf/types-checkpoint.js";
import { randomWeights } from "../../models/random-model.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const types = openTypes();
afterAll(() => {
  types.close();
  rmSync(folder, { recursive: true });
});

const HELD = ["q4_0", "q4_1", "q4_k", "q5_0", "q5_1", "q5_k", "q6_k", "q8_0"];
const [ROWS, COLUMNS] = [8, 512];
const part = (tensor: string): WeightPart => ({ tensor, shape: types.shape(tensor) });
const dtypes = new Map([...types.names()].map((name) => [name, types.dtype(name)]));
const formatOf = (tensor: string): BlockFormat | null => heldFormat(types.dtype(tensor));

/** What a graph of one input gives, its weights written as a compiled model's are; and what was planned. */
async function run(
  input: { readonly type: "float32" | "int64"; readonly shape: readonly number[] },
  given: ArrayLike<number>,
  width: number,
  write: (products: MatrixProducts, input: Value) => Value,
): Promise<{ readonly found: Float32Array; readonly plan: WeightPlan; readonly ops: string }> {
  const plan = new WeightPlan();
  const graph = new GraphBuilder();
  const x = graph.input("x", input.type, input.shape);
  const rows = input.shape.slice(0, input.type === "int64" ? 2 : -1);
  const output = write(new MatrixProducts(graph, plan, { precision: "q4", dtypes, weightsFile: "w.bin" }), x);
  graph.output(output, "float32", [...rows, width]);
  const bytes = graph.serialize("held");
  writeFileSync(join(folder, "held.onnx"), bytes);
  rmSync(join(folder, "w.bin"), { force: true });
  await writeWeights(join(folder, "w.bin"), plan, types, () => {});
  using stored = openWeights({ path: join(folder, "w.bin"), bytes: plan.bytes, places: plan.places });
  using session = Session.load(join(folder, "held.onnx"), { threads: 1, weights: stored.tensors, prepack: true });
  using from = Tensor.zeros(input.type, input.shape);
  using to = Tensor.zeros("float32", [...rows, width]);
  from.write(given);
  using binding = new Binding(session, new Map([[x, from]]), new Map([[output, to]]));
  binding.run();
  return { found: to.read(new Float32Array(to.size)), plan, ops: Buffer.from(bytes).toString("latin1") };
}

/**
 * Products of a row of activations with a matrix in f64, and how far off they may be: each block's activations are rounded
 * to multiples of their largest / 127 where they meet codes, not where their sum meets a minimum; and 1e-5 for sums in f32.
 */
function products(x: Float32Array, tensor: string): { readonly exact: number; readonly bound: number }[] {
  const rows = types.shape(tensor)[0] ?? 0;
  const matrix = types.readF32(tensor);
  const format = formatOf(tensor);
  const size = format?.size ?? 32;
  const minima = format?.minima
    ? repackRows(types.dtype(tensor), types.readBlocks(tensor, 0, rows), rows, COLUMNS).minima
    : new Float32Array((rows * COLUMNS) / size);
  return Array.from({ length: rows }, (_, row) => {
    let [exact, bound] = [0, 0];
    for (let start = 0; start < COLUMNS; start += size) {
      const minimum = minima[(row * COLUMNS + start) / size] ?? Number.NaN;
      let [largest, codes, all] = [0, 0, 0];
      for (let k = start; k < start + size; k++) {
        const [activation, weight] = [x[k] ?? Number.NaN, matrix[row * COLUMNS + k] ?? Number.NaN];
        exact += activation * weight;
        largest = Math.max(largest, Math.abs(activation));
        codes += Math.abs(weight - minimum);
        all += Math.abs(weight - minimum) + Math.abs(minimum);
      }
      bound += largest * (codes * (0.5 / 127) + all * 1e-5);
    }
    return { exact, bound };
  });
}

function expectProducts(found: Float32Array, x: Float32Array, tensors: readonly string[]): void {
  const width = found.length / (x.length / COLUMNS);
  for (let row = 0; row * COLUMNS < x.length; row++) {
    const want = tensors.flatMap((tensor) => products(x.subarray(row * COLUMNS, (row + 1) * COLUMNS), tensor));
    expect(want).toHaveLength(width);
    for (const [i, { exact, bound }] of want.entries())
      expect(Math.abs((found[row * width + i] ?? Number.NaN) - exact)).toBeLessThanOrEqual(bound);
  }
}

describe("a product with blocks that a file has is the one with the weights they stand for", () => {
  it.each(HELD.flatMap((tensor) => [1, 7].map((rows) => [tensor, rows] as const)))(
    "%s, %i rows of activations, but for these being rounded to int8",
    async (tensor, rows) => {
      const x = randomWeights(rows * COLUMNS, 7, 3);
      const input = { type: "float32", shape: [1, rows, COLUMNS] } as const;
      const { found } = await run(input, x, ROWS, (to, from) => to.sideBySide(from, [part(tensor)], COLUMNS));
      expectProducts(found, x, [tensor]);
    },
  );

  it("matrices of several types side by side, in the order they were asked for", async () => {
    const tensors = ["q4_k", "q6_k", "q6_k", "q4_1", "q8_0", "q5_1"];
    const x = randomWeights(3 * COLUMNS, 11, 2);
    const parts = tensors.map(part);
    const input = { type: "float32", shape: [1, 3, COLUMNS] } as const;
    const { found, plan, ops } = await run(input, x, tensors.length * ROWS, (to, from) =>
      to.sideBySide(from, parts, COLUMNS),
    );
    expectProducts(found, x, tensors);
    // Neighbours of a type are one product, and sums of blocks of one size are made once.
    expect([...plan.sources.values()].map(({ blocks }) => blocks?.held)).toEqual([
      "Q4_K",
      "Q6_K",
      "Q4_1",
      "Q8_0",
      "Q5_1",
    ]);
    expect(ops.match(/ReduceSum_/g)).toHaveLength(1);
  });

  it("rows in another order, as fused projections are cut", async () => {
    const x = randomWeights(COLUMNS, 5);
    const rows = [
      [6, 2],
      [0, 3],
    ] as const;
    const input = { type: "float32", shape: [1, 1, COLUMNS] } as const;
    const { found } = await run(input, x, 5, (to, from) => to.sideBySide(from, [{ ...part("q4_1"), rows }], COLUMNS));
    const all = products(x, "q4_1");
    for (const [i, row] of [6, 7, 0, 1, 2].entries())
      expect(Math.abs((found[i] ?? Number.NaN) - (all[row]?.exact ?? Number.NaN))).toBeLessThanOrEqual(
        all[row]?.bound ?? 0,
      );
  });
});

describe("an embedding", () => {
  const IDS = [7, 0, 3, 3];
  const rowsOf = (tensor: string): number[] => {
    const matrix = types.readF32(tensor);
    return IDS.flatMap((id) => [...matrix.subarray(id * COLUMNS, (id + 1) * COLUMNS)]);
  };

  it.each(HELD)("of %s gives the file's numbers, to the bit", async (tensor) => {
    const ids = { type: "int64", shape: [2, 2] } as const;
    const { found, plan } = await run(ids, IDS, COLUMNS, (to, from) => to.rows(part(tensor), from));
    // -0 of a code times a scale is 0 elsewhere: + 0 makes them one.
    expect([...found].map((value) => value + 0)).toEqual(rowsOf(tensor).map((value) => value + 0));
    const exact = ROWS * COLUMNS * 4;
    if (formatOf(tensor)?.minima) expect(plan.bytes).toBe(exact);
    else expect(plan.bytes).toBeLessThan(exact / 2);
  });

  it.each(["q8_0", "q6_k", "q4_0"])("of %s that is the output matrix too lies in the file once", async (tensor) => {
    const ids = { type: "int64", shape: [2, 2] } as const;
    const alone = await run(ids, IDS, COLUMNS, (to, from) => to.rows(part(tensor), from));
    const { found, plan } = await run(ids, IDS, ROWS, (to, from) =>
      to.sideBySide(to.rows(part(tensor), from), [part(tensor)], COLUMNS),
    );
    expect(plan.bytes).toBe(alone.plan.bytes);
    expectProducts(found, Float32Array.from(rowsOf(tensor)), [tensor]);
  });
});
