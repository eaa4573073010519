import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ActivationChoice, ContextActivations } from "../../../lab/activations/context-activations.js";
import { Contexts } from "../../../lab/activations/contexts.js";
import { HookColumns } from "../../../lab/activations/hook-columns.js";
import { ShuffleBuffer } from "../../../lab/activations/shuffle-buffer.js";
import type { LabModel } from "../../../lab/model/lab-model.js";
import { type HookName, hook } from "../../../models/hooks.js";
import type { JsonObject } from "../../../models/model-file.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { maxDifference } from "../../golden-tensors.js";
import { embeddedLab, overflowingLab, story } from "./embedded-lab.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const RESIDUAL = hook.residPost(1);
const KEYS = hook.key(1);
let model: LabModel;
let choice: ActivationChoice;
beforeAll(async () => {
  model = await embeddedLab([RESIDUAL, KEYS], folder);
  const path = join(folder, "text.txt");
  writeFileSync(path, ["fox", "owl", "cat", "dog"].map((animal) => story(30, animal)).join("\n<|endoftext|>\n"));
  choice = { text: [path], part: "train", context: 32, seed: 7 };
});
afterAll(() => {
  model[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

/** Rows of a source, at most so many, asked for in portions. */
async function rowsOf(source: ContextActivations, most: number, portion = 37): Promise<number[]> {
  const rows: number[] = [];
  for (let left = most; left > 0; ) {
    const into = new Float32Array(Math.min(portion, left) * source.width);
    const taken = await source.fill(into);
    rows.push(...into.subarray(0, taken * source.width));
    left -= taken;
    if (taken * source.width < into.length) break;
  }
  return rows;
}

const open = (at: HookName, more: Partial<ActivationChoice> = {}, state?: JsonObject, head: number | null = null) =>
  ContextActivations.open(model, new HookColumns(model, at, head), { ...choice, ...more }, state);

describe("activations of a text", () => {
  it("are what the served graphs hold, without the first ten tokens of each context", async () => {
    const contexts = Contexts.open(model, choice);
    const [rows, whole] = [
      await rowsOf(await open(RESIDUAL), 22 * 4),
      await rowsOf(await open(RESIDUAL, { skipStart: 0 }), 32 * 4),
    ];
    for (let i = 0; i < 4; i++) {
      const residuals: Residuals = new Map();
      model.run([(await contexts.next())!.ids], { residuals });
      const values = residuals.get(RESIDUAL)!;
      expect(maxDifference(rows.slice(i * 22 * 192, (i + 1) * 22 * 192), values.subarray(10 * 192))).toBeLessThan(2e-4);
      expect(maxDifference(whole.slice(i * 32 * 192, (i + 1) * 32 * 192), values)).toBeLessThan(2e-4);
    }
  });

  it("of one head are that head's columns", async () => {
    const heads = await rowsOf(await open(KEYS), 50);
    const second = await rowsOf(await open(KEYS, {}, undefined, 1), 50);
    expect(heads).toHaveLength(50 * 64);
    const wanted = heads.filter((_, i) => i % 64 >= 32);
    expect(maxDifference(second, wanted)).toBe(0);
  });

  it("end with the text, and go on after any row", async () => {
    const all = await rowsOf(await open(RESIDUAL), 1e9, 500);
    const contexts = Contexts.open(model, choice);
    let count = 0;
    while ((await contexts.next()) !== null) count++;
    expect(all).toHaveLength(count * 22 * 192);
    for (const taken of [22 * 8, 22 * 16 + 1]) {
      const source = await open(RESIDUAL);
      await rowsOf(source, taken);
      const state = JSON.parse(JSON.stringify(source.state()));
      const rest = await rowsOf(await open(RESIDUAL, {}, state), 1e9, 500);
      expect(maxDifference(rest, all.slice(taken * 192))).toBe(0);
    }
  });

  it("are served by a buffer that was killed and resumed as by one that was not", async () => {
    const buffered = (resumed?: JsonObject) =>
      ShuffleBuffer.open(join(folder, "buffer"), (state) => open(RESIDUAL, {}, state), {
        ...{ vectors: 512, batch: 64, seed: 2, resumed },
      });
    const batches = async (buffer: ShuffleBuffer) => {
      const found: Float32Array[] = [];
      for (let batch = new Float32Array(64 * 192); await buffer.next(batch); batch = new Float32Array(64 * 192))
        found.push(batch);
      return found;
    };
    const first = await buffered();
    const whole = await batches(first);
    first[Symbol.dispose]();
    const killed = await buffered();
    for (let i = 0; i < 8; i++) await killed.next(new Float32Array(64 * 192));
    expect(killed.atRefill).toBe(true);
    const state = killed.state();
    killed.checkpointed();
    await killed.next(new Float32Array(64 * 192));
    killed[Symbol.dispose]();
    using resumed = await buffered(JSON.parse(JSON.stringify(state)));
    const rest = await batches(resumed);
    expect(rest).toHaveLength(whole.length - 8);
    for (const [i, batch] of rest.entries()) expect(maxDifference(batch, whole[8 + i]!)).toBe(0);
    expect(whole.length).toBeGreaterThan(16);
  });
});

describe("what cannot be read is a sentence", () => {
  it.each([
    [RESIDUAL, 0, "--head 0: blocks.1.hook_resid_post is not divided into heads"],
    [KEYS, 2, "--head 2: blocks.1.attn.hook_k of the embedded model has heads 0 to 1"],
    [KEYS, -1, "--head -1: blocks.1.attn.hook_k of the embedded model has heads 0 to 1"],
  ])("%s, head %s", async (at, head, message) => {
    await expect(async () => open(at, {}, undefined, head)).rejects.toThrow(message);
  });

  it("more tokens left out than a context has", async () => {
    await expect(open(RESIDUAL, { skipStart: 32 })).rejects.toThrow("--skip-start 32 leaves nothing of contexts of 32");
  });

  it("numbers that are not finite", async () => {
    using broken = await overflowingLab([RESIDUAL], folder);
    const source = await ContextActivations.open(broken, new HookColumns(broken, RESIDUAL), choice);
    await expect(source.fill(new Float32Array(192))).rejects.toThrow(
      /^blocks.1.hook_resid_post holds a number that is not finite in text.txt.*, from token 0 on$/,
    );
  });
});
