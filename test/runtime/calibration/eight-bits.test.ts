import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, onTestFinished } from "vitest";
import { listEntries } from "../../../models/cache/cache-entry.js";
import { type Precision, resolvePrecision } from "../../../models/weights/block-format.js";
import { type EightBits, eightBitsHere, formOf, formOfEightBits } from "../../../runtime/calibration/eight-bits.js";

const THREADS = { threads: 1, spin: false };

const measured = (exact: boolean, alone: number, few: number, many: number): EightBits => ({
  exact,
  ratios: [
    { rows: 1, ratio: alone },
    { rows: 16, ratio: few },
    { rows: 64, ratio: many },
  ],
});

describe("the form of 8 bits", () => {
  it.each<[string, EightBits, Precision]>([
    ["integers where many rows gain more than one loses", measured(true, 0.85, 1.7, 2.2), "int8"],
    ["blocks where integers are wrong, however fast", measured(false, 2, 2, 2), "q8-block"],
    ["blocks where nothing is gained", measured(true, 0.9, 1, 1.05), "q8-block"],
    ["blocks where one text alone would lose too much", measured(true, 0.75, 4, 4), "q8-block"],
    ["blocks where nothing was measured", { exact: false, ratios: [] }, "q8-block"],
  ])("is %s", (_, found, form) => expect(formOf(found)).toBe(form));

  it("is asked for as q8, and never changes blocks of 4 bits that a file has", () => {
    const eightBits = "int8";
    expect(resolvePrecision("q8", ["F32", "BF16"], { eightBits })).toBe("int8");
    expect(resolvePrecision("q8", ["F32", "Q8_0"], { eightBits })).toBe("int8");
    expect(resolvePrecision("q8", ["F32", "Q4_1", "Q8_0"], { eightBits })).toBe("q8-block");
    expect(resolvePrecision("q8", ["F32"])).toBe("q8-block");
    expect(resolvePrecision("auto", ["F32", "Q8_0"], { eightBits })).toBe("q8-block");
    for (const named of ["int8", "q8-block"] as const) expect(resolvePrecision(named, ["Q4_1"])).toBe(named);
  });
});

describe("what a processor does with products of 8 bits", () => {
  // Trying takes a second.
  const root = mkdtempSync(join(tmpdir(), "lambdatap-"));
  afterAll(() => rmSync(root, { recursive: true }));

  it("is tried once for a cache folder, and is an entry of it", async () => {
    const first = await eightBitsHere(root, THREADS);
    expect(first.ratios.every(({ ratio }) => ratio > 0 && Number.isFinite(ratio))).toBe(true);
    const [entry] = listEntries(root);
    expect(entry).toMatchObject({ model: expect.stringMatching(/^products on ./), precision: "q8" });
    expect(await eightBitsHere(root, THREADS)).toEqual(first);
  });

  it("decides what q8 is, and refuses int8 in a sentence where it is wrong", async () => {
    await eightBitsHere(root, THREADS);
    const [folder = ""] = readdirSync(root).map((name) => join(root, name));
    const write = (found: EightBits) => {
      const file = join(folder, "eight-bits.json");
      // An entry whose files are of another length is no entry.
      writeFileSync(file, JSON.stringify(found).padEnd(readFileSync(file).length));
    };
    write({ exact: true, ratios: [{ rows: 1, ratio: 2 }] });
    expect(await formOfEightBits("q8", root, THREADS)).toBe("int8");
    expect(await formOfEightBits("int8", root, THREADS)).toBe("int8");
    write({ exact: false, ratios: [] });
    expect(await formOfEightBits("q8", root, THREADS)).toBe("q8-block");
    await expect(formOfEightBits("int8", root, THREADS)).rejects.toThrow(/saturate: take --precision q8-block\.$/);
  });

  it("is tried again where the entry was damaged", async () => {
    await eightBitsHere(root, THREADS);
    const [folder = ""] = readdirSync(root).map((name) => join(root, name));
    const file = join(folder, "eight-bits.json");
    writeFileSync(file, "{}".padEnd(readFileSync(file).length));
    const found = await eightBitsHere(root, THREADS);
    expect(found.exact).toBeTypeOf("boolean");
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(found);
  });

  it("is not tried for a model that asks for other bits", async () => {
    const empty = mkdtempSync(join(tmpdir(), "lambdatap-"));
    onTestFinished(() => rmSync(empty, { recursive: true }));
    for (const asked of ["auto", "f32", "q8-block", "q4"] as const)
      expect(await formOfEightBits(asked, empty, THREADS)).toBeUndefined();
    expect(readdirSync(empty)).toEqual([]);
  });
});
