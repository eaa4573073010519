import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type CompiledModel, compileModel } from "../../../models/compile.js";
import { calibrationTexts } from "../../../runtime/calibration/calibration-texts.js";
import { openKvRanges } from "../../../runtime/calibration/open-kv-ranges.js";
import { goldenFolder } from "../../golden-tensors.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const llama = () => compileModel({ path: goldenFolder("architectures/llama"), precision: "f32", cacheRoot });
const files = ({ weights }: CompiledModel) =>
  readdirSync(dirname(weights.path))
    .filter((name) => name.startsWith("kv-ranges-"))
    .map((name) => join(dirname(weights.path), name));

describe("the ranges of a compiled model", () => {
  it("are measured once for each text, and again where their file was damaged", async () => {
    const model = await llama();
    const measured: number[] = [];
    const open = (ids: readonly number[] | null) =>
      openKvRanges(model, { ids, threads: 1, onMeasured: (seconds) => measured.push(seconds) });
    const first = open([1, 2, 3, 4]);
    expect(open([1, 2, 3, 4])).toEqual(first);
    expect(measured).toHaveLength(1);

    const [file = ""] = files(model);
    const bytes = readFileSync(file);
    truncateSync(file, 40);
    expect(open([1, 2, 3, 4])).toEqual(first);
    expect(measured).toHaveLength(2);
    expect(readFileSync(file)).toEqual(bytes);

    expect(open([4, 3, 2, 5])).not.toEqual(first);
    expect(measured).toHaveLength(3);
    expect(files(model)).toHaveLength(2);
  });

  it("are measured with ids of its vocabulary where it has no tokenizer, the same each time", async () => {
    const model = await llama();
    const texts = calibrationTexts(model, null);
    expect(texts).toEqual(calibrationTexts(model, null));
    expect(new Set(texts.flat()).size).toBeGreaterThan(20);
    for (const id of texts.flat()) expect(id >= 0 && id < model.shape.vocabSize).toBe(true);
    openKvRanges(model, { ids: null, threads: 1 });
  });

  it("are measured without a token to begin a text that the model does not know", async () => {
    const model = await llama();
    const { vocabSize } = model.shape;
    const beginning = (bosTokenId: number) => ({ ...model, generation: { ...model.generation, bosTokenId } });
    expect(calibrationTexts(beginning(vocabSize - 1), [1, 2, 3])).toEqual([[vocabSize - 1, 1, 2, 3]]);
    expect(calibrationTexts(beginning(vocabSize), [1, 2, 3])).toEqual([[1, 2, 3]]);
    openKvRanges(beginning(vocabSize), { ids: [1, 2, 3], threads: 1 });
  });

  it("are measured with texts within the trained length, with and without the token that begins a text", async () => {
    const path = join("models", "default");
    const model = await compileModel({ path, precision: "f32", cacheRoot });
    const ids = Array.from({ length: 3000 }, (_, i) => 5 + (i % 4000));
    const texts = calibrationTexts(model, ids);
    expect(texts.map(([first]) => first === 0)).toEqual(texts.map((_, i) => i % 2 === 0));
    for (const text of texts) expect(text.length).toBeLessThanOrEqual(model.shape.trainedLength);
    expect(texts.flat().filter((id) => id !== 0)).toEqual(ids.slice(0, 2048));
  });
});
