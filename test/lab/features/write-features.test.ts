import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { FEATURES_FILE, writeFeatures } from "../../../lab/features/write-features.js";
import { ModelWithSaes } from "../../../lab/model/open-saes.js";
import { quantile } from "../../../lab/statistics/quantiles.js";
import type { HookName } from "../../../models/hooks.js";
import { packageRoot } from "../../../models/package-root.js";
import { compileSae } from "../../../models/sae/compile-sae.js";
import { AttachedSaes } from "../../../runtime/saes/attached-saes.js";
import { goldenFolder } from "../../golden-tensors.js";
import { overflowingLab } from "../activations/embedded-lab.js";

const home = mkdtempSync(join(tmpdir(), "lambdatap-features-"));
afterAll(() => rmSync(home, { recursive: true }));

const golden = goldenFolder("sae-eval");
const { ids } = z
  .object({ ids: z.array(z.array(z.int())) })
  .parse(JSON.parse(readFileSync(join(golden, "contexts.json"), "utf8")));

const contexts = ids.slice(0, 12);

const Line = z.strictObject({
  index: z.int(),
  density: z.number(),
  max: z.number(),
  quantiles: z.record(z.string(), z.number()),
  top: z.array(z.strictObject({ ids: z.array(z.int()), values: z.array(z.number()), at: z.int() })),
});
const linesOf = (folder: string) =>
  readFileSync(join(folder, FEATURES_FILE), "utf8")
    .trim()
    .split("\n")
    .map((line) => Line.parse(JSON.parse(line)));

/** Contexts one after the other. */
function source(all: readonly (readonly number[])[]) {
  const left = [...all];
  return { next: async () => ((ids) => (ids === undefined ? null : { ids }))(left.shift()) };
}

const folders = ["relu", "topk"].map((name) => join(home, name));
const cacheDir = join(home, "cache");
let opened: ModelWithSaes;
/** By SAE: [features] activations of all tokens but BOS, in the order of the contexts. */
const dense: Float32Array[][] = [];

beforeAll(async () => {
  for (const folder of folders)
    cpSync(join(golden, "saes", folder.slice(home.length + 1)), folder, { recursive: true });
  const path = join(packageRoot(), "models", "default");
  const choice = {
    path,
    name: "default",
    precision: "f32" as const,
    threads: 1,
    device: { kind: "cpu" as const },
    cacheDir,
  };
  opened = await ModelWithSaes.open(choice, { folders: folders.map((folder) => ({ folder })), anyModel: false });
  for (const { hook, coder } of opened.saes) {
    const features = Array.from({ length: coder.sae.description.dSae }, () => new Float32Array(contexts.length * 127));
    for (const [c, ids] of contexts.entries()) {
      const residuals = new Map<HookName, Float32Array>();
      opened.model.run([ids], { residuals });
      const codes = coder.encode(residuals.get(hook)!);
      for (let row = 1; row < ids.length; row++)
        for (let at = codes.starts[row]!; at < codes.starts[row + 1]!; at++)
          features[codes.features[at]!]![c * 127 + row - 1] = codes.activations[at]!;
    }
    dense.push(features);
  }
});
afterAll(() => opened[Symbol.dispose]());

describe("features.jsonl", () => {
  test("is not written of what is not finite", async () => {
    const hook = "blocks.0.hook_resid_post";
    using overflowing = await overflowingLab([hook], home);
    const [sae] = opened.saes; // its input is not normalised, so that infinities stay infinities
    const writing = writeFeatures(overflowing, [{ ...sae!, hook }], source([[0, 5]]));
    await expect(writing).rejects.toThrow(`${hook} of overflowing holds a number that is not finite`);
  });

  test("says of every feature how often and how strongly it is active", async () => {
    const read = await writeFeatures(opened.model, opened.saes, source(contexts));
    expect(read).toBe(contexts.length * 127);
    for (const [i, folder] of folders.entries()) {
      const lines = linesOf(folder);
      expect(lines.map(({ index }) => index)).toEqual([...dense[i]!.keys()]);
      for (const { index, density, max, quantiles } of lines) {
        const active = dense[i]![index]!.filter((value) => value > 0).sort();
        expect(density).toBe(Number((active.length / read).toPrecision(4)));
        expect(max).toBe(Number((active.at(-1) ?? 0).toPrecision(4)));
        expect(Object.keys(quantiles)).toEqual(
          active.length === 0 ? [] : ["0.1", "0.25", "0.5", "0.75", "0.9", "0.99"],
        );
        if (active.length > 200) expect(quantiles["0.5"]! / quantile(active, 0.5)).toBeCloseTo(1, 1);
      }
    }
  });

  test("shows the five contexts in which a feature is strongest, with its activations at each token", () => {
    for (const [i, folder] of folders.entries())
      for (const { index, top } of linesOf(folder)) {
        const values = dense[i]![index]!;
        const largest = contexts.map((_, c) => Math.max(...values.subarray(c * 127, (c + 1) * 127)));
        const expected = largest.filter((value) => value > 0).sort((a, b) => b - a);
        expect(top.map((context) => context.values[context.at])).toEqual(
          expected.slice(0, 5).map((value) => Number(value.toPrecision(4))),
        );
        for (const { ids, values: shown, at } of top) {
          expect([ids.length, shown.length]).toEqual([32, 32]);
          const c = contexts.findIndex((context) => String(context).includes(`,${String(ids)}`));
          const from = contexts[c]!.findIndex((_, place) => ids.every((id, n) => contexts[c]![place + n] === id));
          expect(from).toBeGreaterThan(0); // never BOS
          const own = values.subarray(c * 127 + from - 1, c * 127 + from - 1 + ids.length);
          expect(shown).toEqual(Array.from(own, (value) => Number(value.toPrecision(4))));
          expect(shown[at]).toBe(Math.max(...shown));
        }
      }
  });

  test("has each text once, where a text repeats itself", async () => {
    const [sae] = opened.saes;
    await writeFeatures(opened.model, [sae!], source([contexts[0]!, contexts[0]!, contexts[1]!]));
    for (const { top } of linesOf(folders[0]!))
      expect(new Set(top.map(({ ids }) => String(ids))).size).toBe(top.length);
    expect(Math.max(...linesOf(folders[0]!).map(({ top }) => top.length))).toBe(2);
  });

  test("is of as many tokens as asked for, the same every time", async () => {
    const { model, saes } = opened;
    const read = await writeFeatures(model, saes, source(ids), { tokens: 1000 });
    const first = readFileSync(join(folders[1]!, FEATURES_FILE), "utf8");
    expect(read).toBe(16 * 127);
    await writeFeatures(model, saes, source(ids), { tokens: 1000 });
    expect(readFileSync(join(folders[1]!, FEATURES_FILE), "utf8")).toBe(first);
  });

  test("leaves the SAE what it was: its content is the same, and it attaches", async () => {
    const folder = folders[1]!;
    using attached = await AttachedSaes.attach({
      choice: { folders: [{ folder }], precision: "f32", anyModel: false },
      ...{ model: opened.model.compiled, folder: home, names: ["default"] },
      ...{ cacheRoot: cacheDir, threads: 1, spin: false },
    });
    rmSync(join(folder, FEATURES_FILE));
    const { content } = await compileSae({ folder, precision: "f32", cacheRoot: cacheDir });
    expect([...attached.contents.values()]).toEqual([content]);
  });

  test("stays as it was where the text is empty or the file cannot be written", async () => {
    const { model, saes } = opened;
    const [sae] = saes;
    const folder = join(home, "kept");
    mkdirSync(folder);
    writeFileSync(join(folder, FEATURES_FILE), "before");
    await expect(writeFeatures(model, [{ ...sae!, folder }], source([]))).rejects.toThrow(
      "there is no text to find features in",
    );
    expect(readdirSync(folder)).toEqual([FEATURES_FILE]);
    const missing = join(home, "missing");
    await expect(writeFeatures(model, [{ ...sae!, folder: missing }], source(contexts.slice(0, 1)))).rejects.toThrow(
      `${join(missing, FEATURES_FILE)} cannot be written: ENOENT`,
    );
    expect([readFileSync(join(folder, FEATURES_FILE), "utf8"), existsSync(missing)]).toEqual(["before", false]);
  });
});
