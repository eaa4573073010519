import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import type { AskedPrecision } from "../../../models/weights/block-format.js";
import { plain8 } from "../../../models/weights/block-format.js";
import { dequantiseRows, quantiseRows } from "../../../models/weights/quantise.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { randomWeights } from "../../models/random-model.js";
import { openEmbedded } from "../../models/tokenizer/opened.js";
import { linear } from "./linear-product.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("a multiplication with 8-bit weights", () => {
  it.each([
    { rows: 1, columns: 192 },
    { rows: 1, columns: 100 },
    { rows: 7, columns: 576 },
    { rows: 7, columns: 65 },
    { rows: 64, columns: 1536 },
  ])(
    "of $rows rows of $columns is the one with the dequantised matrix, but for activations rounded to int8",
    async ({ rows, columns }) => {
      const x = randomWeights(rows * columns, 7, 3);
      const weights = [randomWeights(40 * columns, 1, 0.2), randomWeights(24 * columns, 2)];
      const stacked = Float32Array.from(weights.flatMap((part) => [...part]));
      const { size: block } = plain8(columns, "cpu");
      const matrix = dequantiseRows(quantiseRows(stacked, 64, columns, block), 64, columns, block);
      const found = await linear(x, weights, columns, "q8-block");

      let [error, size] = [0, 0];
      for (const [i, value] of found.entries()) {
        const { exact, bound } = product(x, matrix, Math.floor(i / 64), i % 64, { columns, block });
        expect(Math.abs(value - exact)).toBeLessThanOrEqual(bound);
        error += (value - exact) ** 2;
        size += exact ** 2;
      }
      // Rounding to 1/127 of a block's largest value, uniform: an rms error of 1 / (127 sqrt(12)) of it, and that of uniform
      // values is sqrt(3) times their own rms: 0.4 %.
      expect(Math.sqrt(error / size)).toBeLessThan(0.005);
    },
  );
});

/**
 * One element of x matrix^T in f64, and how far off it may be: accuracy_level 4 rounds each block of activations to
 * multiples of its largest / 127, so each activation is off by half of that at most; and 1e-5 for sums in f32.
 */
function product(
  x: Float32Array,
  matrix: Float32Array,
  row: number,
  out: number,
  { columns, block }: { readonly columns: number; readonly block: number },
) {
  let [exact, bound] = [0, 0];
  for (let start = 0; start < columns; start += block) {
    let [largest, weights] = [0, 0];
    for (let k = start; k < Math.min(start + block, columns); k++) {
      const [activation, weight] = [x[row * columns + k] ?? 0, matrix[out * columns + k] ?? 0];
      exact += activation * weight;
      largest = Math.max(largest, Math.abs(activation));
      weights += Math.abs(weight);
    }
    bound += weights * largest * (0.5 / 127 + 1e-5);
  }
  return { exact, bound };
}

describe("the embedded model in 8 bit", () => {
  const model = join("models", "default");
  const text = readFileSync(join("test", "data", "the-wind-in-the-willows.txt"), "utf8").slice(0, 16_000);
  const ids = [0];
  beforeAll(async () => {
    ids.push(...(await (await openEmbedded()).encode(text)).slice(0, 2_999));
  });

  it("is as good at a held-out book as in f32: mean NLL within 0.5 %, in blocks and as integers", async () => {
    expect(ids).toHaveLength(3_000);
    const exact = await meanNll("f32");
    expect(exact).toBeGreaterThan(2);
    expect(exact).toBeLessThan(5);
    for (const precision of ["q8-block", "int8"] as const) {
      const rounded = await meanNll(precision);
      const percent = ((rounded / exact - 1) * 100).toFixed(3);
      console.log(
        `mean NLL of ${ids.length - 1} tokens in ${precision}: ${rounded.toFixed(5)} (${percent} % from f32)`,
      );
      expect(rounded).not.toBe(exact);
      expect(Math.abs(rounded / exact - 1)).toBeLessThan(0.005);
    }
  });

  /** nat per token, window 256, sinks 10. */
  async function meanNll(precision: AskedPrecision): Promise<number> {
    using runner = new Runner(await compileModel({ path: model, precision, cacheRoot: join(folder, "cache") }), {
      window: 256,
      threads: 2,
      spin: false,
    });
    const { vocabSize } = runner.model.shape;
    const cache = runner.openCache({ window: 256, sinks: 10 });
    const row = cache.allocate();
    let sum = 0;
    for (let start = 0; start < ids.length - 1; start += 256) {
      const chunk = ids.slice(start, Math.min(start + 256, ids.length - 1));
      const logits = runner.prefill(cache, row, chunk, [...chunk.keys()]);
      for (const i of chunk.keys())
        sum += nll(logits.subarray(i * vocabSize, (i + 1) * vocabSize), ids[start + i + 1] ?? 0);
    }
    runner.closeCache(cache);
    return sum / (ids.length - 1);
  }
});

function nll(logits: Float32Array, token: number): number {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return Math.log(sum) + largest - (logits[token] ?? Number.NaN);
}
