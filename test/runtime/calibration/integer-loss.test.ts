import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { integerLoss, integerProblem, isTooMuch, lossOf } from "../../../runtime/calibration/integer-loss.js";
import { goldenFolder } from "../../golden-tensors.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const path = goldenFolder("architectures/llama");
const IDS = Array.from({ length: 200 }, (_, i) => (i * 37) % 100);
const THREADS = { threads: 1, spin: false };

describe("what integers cost beside blocks", () => {
  it("is a share of the NLL, with the error of the mean of the tokens' differences", () => {
    const { share, error } = lossOf(Float64Array.of(1.1, 2, 3.1, 2), Float64Array.of(1, 2, 3, 2));
    expect(share).toBeCloseTo(0.05 / 2, 12);
    expect(error).toBeCloseTo(0.05 / Math.sqrt(4) / 2, 12);
  });

  it("is too much where it surely is more than 0.4 %, or no number", () => {
    expect(isTooMuch({ share: 0.006, error: 0.002 })).toBe(false);
    expect(isTooMuch({ share: -0.01, error: 0.001 })).toBe(false);
    expect(isTooMuch({ share: 0.006, error: 0.0009 })).toBe(true);
    expect(isTooMuch({ share: Number.NaN, error: Number.NaN })).toBe(true);
  });

  it("is measured once for a text, and is little", async () => {
    const integers = await compileModel({ path, precision: "int8", cacheRoot });
    let compiled = 0;
    const blocks = () => {
      compiled++;
      return compileModel({ path, precision: "q8-block", cacheRoot });
    };
    const first = await integerLoss(integers, blocks, { ids: IDS, ...THREADS });
    expect(Math.abs(first.share)).toBeLessThan(0.05);
    expect(first.error).toBeGreaterThan(0);
    expect(await integerLoss(integers, blocks, { ids: IDS, ...THREADS })).toEqual(first);
    expect(compiled).toBe(1);
    await integerLoss(integers, blocks, { ids: IDS.slice(50), ...THREADS });
    expect(compiled).toBe(2);
  });

  it("is measured once where it is no number, too, and keeps the model in blocks", async () => {
    const model = await compileModel({ path: goldenFolder("architectures/olmo2"), precision: "int8", cacheRoot });
    const integers = { ...model, shape: { ...model.shape, bosTokenId: null } };
    let compiled = 0;
    const blocks = async () => {
      compiled++;
      return integers;
    };
    for (let i = 0; i < 2; i++)
      expect(await integerProblem(integers, blocks, [7], THREADS)).toBe(
        "what int8 changes of the calibration text cannot be told: it has no NLL, or one that is not finite",
      );
    expect(compiled).toBe(1);
  });

  it("keeps a model in blocks whose integers are bad, and one without a tokenizer, in a sentence", async () => {
    const integers = await compileModel({ path: goldenFolder("architectures/qwen3"), precision: "int8", cacheRoot });
    const same = async () => integers;
    expect(await integerProblem(integers, same, IDS, THREADS)).toBeNull();
    const folder = dirname(integers.weights.path);
    const [name = ""] = readdirSync(folder).filter((each) => each.startsWith("integer-loss-"));
    integers.measured.write(name, Buffer.from(JSON.stringify({ share: 0.0213, error: 0.0015 })));
    expect(await integerProblem(integers, same, IDS, THREADS)).toBe(
      "int8 changes the NLL of the calibration text by 2.13 ± 0.15 %",
    );
    expect(await integerProblem(integers, same, null, THREADS)).toMatch(/has no tokenizer/);
    integers.measured.write(name, Buffer.from("{"));
    expect(await integerProblem(integers, same, IDS, THREADS)).toBeNull();
  });
});
