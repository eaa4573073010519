import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { HookColumns } from "../../../lab/activations/hook-columns.js";
import { PromptActivations } from "../../../lab/activations/prompt-activations.js";
import { LabModel } from "../../../lab/model/lab-model.js";
import { hook } from "../../../models/hooks.js";
import type { JsonObject } from "../../../models/model-file.js";
import { goldenFolder, maxDifference } from "../../golden-tensors.js";
import { embeddedLab, overflowingLab } from "./embedded-lab.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const HOOK = hook.attended(2);
const path = join(folder, "prompts.jsonl");
let model: LabModel;
beforeAll(async () => {
  model = await embeddedLab([HOOK], folder);
});
afterAll(() => {
  model[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

type Line = { readonly text?: string; readonly ids?: readonly number[]; readonly positions: readonly number[] };
function file(lines: readonly (Line | string)[]): string {
  writeFileSync(path, lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n"));
  return path;
}
const open = (lines: readonly (Line | string)[], resumed?: JsonObject) =>
  PromptActivations.open(model, new HookColumns(model, HOOK), file(lines), 3, resumed);

async function rowsOf(source: PromptActivations, portion: number, most = Number.POSITIVE_INFINITY) {
  const rows: Float32Array[] = [];
  for (let left = most; left > 0; left -= portion) {
    const into = new Float32Array(portion * source.width);
    const taken = await source.fill(into);
    for (let i = 0; i < taken; i++) rows.push(into.slice(i * source.width, (i + 1) * source.width));
    if (taken < portion) break;
  }
  return rows;
}

describe("activations of prompts", () => {
  const prompts = Array.from({ length: 50 }, (_, i) => ({
    ids: [0, ...Array.from({ length: 4 + (i % 3) }, (_, k) => 300 + i * 13 + k)],
    positions: [-1, 1],
  }));

  it("are those of the named tokens alone, each prompt as it is alone", async () => {
    const rows = await rowsOf(await open(prompts), 7);
    expect(rows).toHaveLength(100);
    const wanted = prompts.flatMap(({ ids }) => {
      const values = model.activations([ids]).get(HOOK)!;
      return [values.slice((ids.length - 1) * 192), values.slice(192, 2 * 192)];
    });
    const unmatched = new Set(wanted);
    for (const row of rows) {
      const found = [...unmatched].find((want) => maxDifference(row, want) < 1e-5);
      expect(found).toBeDefined();
      unmatched.delete(found!);
    }
  });

  it("go on after any row", async () => {
    const all = await rowsOf(await open(prompts), 10);
    for (const taken of [0, 1, 33, 64, 99]) {
      const source = await open(prompts);
      await rowsOf(source, 1, taken);
      const rest = await rowsOf(await open(prompts, source.state()), 10);
      expect(rest).toHaveLength(all.length - taken);
      for (const [i, row] of rest.entries()) expect(maxDifference(row, all[taken + i]!)).toBe(0);
    }
    const source = await open(prompts);
    const state = source.state();
    await expect(open(prompts.slice(1), state)).rejects.toThrow(/the run that is to be resumed had other prompts/);
  });

  it("of texts have BOS before them, which positions count", async () => {
    const text = "When Mary and John went to the store";
    const ids = [0, ...(await model.encoder!.encode(text, "text"))];
    const [row] = await rowsOf(await open([{ text, positions: [-1] }, ""]), 10);
    expect(row).toEqual(model.activations([ids]).get(HOOK)!.slice(-192));
  });
});

describe("what is no prompt is a sentence that names the line", () => {
  it.each([
    ["no prompts", ["", " "], /prompts\.jsonl has no prompts/],
    ["no JSON", ["Hello"], /line 1 of .*prompts\.jsonl is not \{"text"/],
    ["text and ids", [{ text: "a", ids: [1], positions: [0] }], /line 1 of .* is not/],
    ["no positions", ['{"text": "a"}'], /line 1 of .* is not/],
    [
      "a position beyond it",
      [
        { ids: [0, 5], positions: [0] },
        { ids: [0, 5], positions: [2] },
      ],
      /line 2 of .* has no position 2: it has 2 tokens/,
    ],
    ["a position before it", [{ ids: [0, 5], positions: [-3] }], /has no position -3/],
    ["a token that is none", [{ ids: [0, 4096], positions: [0] }], /has token 4096, and the model knows 0 to 4095/],
    ["too long", [{ ids: new Array(257).fill(9), positions: [0] }], /has 257 tokens, and 256 are read at once at most/],
  ])("%s", async (_, lines, message) => {
    await expect(open(lines)).rejects.toThrow(message);
  });

  it("a text without a tokenizer", async () => {
    const how = { precision: "f32", device: { kind: "cpu" }, threads: 1, cacheDir: folder } as const;
    using tiny = await LabModel.open({ path: goldenFolder("lm-infinite"), name: "tiny", ...how }, [HOOK]);
    await expect(
      PromptActivations.open(tiny, new HookColumns(tiny, HOOK), file([{ text: "Hello", positions: [0] }]), 0),
    ).rejects.toThrow(/line 1 of .* is a text, and tiny has no tokenizer: give its ids/);
  });

  it("numbers that are not finite", async () => {
    using broken = await overflowingLab([HOOK], folder);
    const lines = file(["", { ids: [0, 5], positions: [1] }]);
    const source = await PromptActivations.open(broken, new HookColumns(broken, HOOK), lines, 0);
    await expect(source.fill(new Float32Array(source.width))).rejects.toThrow(
      /blocks.2.attn.hook_z holds a number that is not finite in line 2 of/,
    );
  });
});
