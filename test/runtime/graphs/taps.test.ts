import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type CompiledModel, compileModel } from "../../../models/compile.js";
import { type HookName, hook } from "../../../models/hooks.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import {
  expectedTensors,
  goldenArchitectures,
  goldenFolder,
  goldenIds,
  goldenSequences,
  maxDifference,
} from "../../golden-tensors.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const compiled = (name: string): Promise<CompiledModel> =>
  compileModel({ path: goldenFolder(name), precision: "f32", cacheRoot });

/** All hooks at all tokens, [tokens, hiddenSize] each: prefilled in chunks, or decoded (chunk 1). */
function residualsOf(runner: Runner, geometry: { window: number; sinks: number }, ids: number[], chunk: number) {
  const parts = new Map<HookName, number[]>();
  const cache = runner.openCache(geometry);
  const row = cache.allocate();
  for (let start = 0; start < ids.length; start += chunk) {
    const residuals: Residuals = new Map();
    const tokens = ids.slice(start, start + chunk);
    if (chunk === 1) runner.decode(cache, row, tokens, { residuals });
    else runner.prefill(cache, row, tokens, [], { residuals });
    for (const [name, values] of residuals) {
      const all = parts.get(name) ?? [];
      for (const value of values) all.push(value);
      parts.set(name, all);
    }
  }
  runner.closeCache(cache);
  return (name: HookName): readonly number[] => parts.get(name) ?? [];
}

/** Scaled to the golden's largest value, which reaches far beyond 1. */
function relativeDifference(got: ArrayLike<number>, want: Float32Array): number {
  return maxDifference(got, want) / Math.max(1, ...want.map(Math.abs));
}

describe.each(goldenArchitectures())("$name: hooks hold what transformers has", ({ name, expectedFrom }) => {
  it.each([
    ["prefilled", 64],
    ["prefilled in chunks of 9", 9],
    ["token by token", 1],
  ])("%s", async (_, chunk) => {
    const model = await compiled(`architectures/${name}`);
    const expected = expectedTensors(`architectures/${expectedFrom}`);
    using runner = new Runner(model, { window: 64, threads: 1, taps: new Set(model.hooks) });
    for (const [i, ids] of goldenSequences(`architectures/${name}`).entries()) {
      const at = residualsOf(runner, { window: 64, sinks: 2 }, ids, chunk);
      const { layers, hiddenSize } = model.shape;
      const hidden = expected.get(`seq${i}.hidden_states`)?.values ?? new Float32Array();
      const state = (layer: number) =>
        hidden.subarray(layer * ids.length * hiddenSize, (layer + 1) * ids.length * hiddenSize);
      for (let layer = 0; layer < layers; layer++) {
        expect(relativeDifference(at(hook.residPre(layer)), state(layer))).toBeLessThan(1e-4);
        expect(relativeDifference(at(hook.residPost(layer)), state(layer + 1))).toBeLessThan(1e-4);
      }
      if (i > 0) continue;
      const golden = (tensor: string) => expected.get(`seq0.${tensor}`)?.values ?? new Float32Array();
      expect(relativeDifference(at(hook.attnOut(1)), golden("attn_out_1"))).toBeLessThan(1e-4);
      const parallel = !expected.has("seq0.resid_mid_1"); // attention and MLP are added at once: there is nothing between
      expect(model.hooks.includes(hook.residMid(1))).toBe(!parallel);
      if (!parallel) expect(relativeDifference(at(hook.residMid(1)), golden("resid_mid_1"))).toBeLessThan(1e-4);
      expect(relativeDifference(at(hook.mlpOut(1)), golden("mlp_out_1"))).toBeLessThan(1e-4);
    }
  });
});

describe.each(["lm-infinite", "lm-infinite-alibi"])("%s: residuals of 400 tokens with a window of 32", (name) => {
  it.each([
    ["prefilled in chunks of 32", 32],
    ["prefilled in chunks of 7", 7],
    ["token by token", 1],
  ])("%s", async (_, chunk) => {
    const model = await compiled(name);
    const expected = expectedTensors(name);
    using runner = new Runner(model, { window: 32, threads: 1, taps: new Set(model.hooks) });
    const at = residualsOf(runner, { window: 32, sinks: 4 }, goldenIds(name), chunk);
    for (const layer of [0, 1, 2]) {
      const golden = (place: string) => expected.get(`resid_${place}_${layer}`)?.values ?? new Float32Array();
      expect(maxDifference(at(hook.residMid(layer)), golden("mid"))).toBeLessThan(2e-4);
      expect(maxDifference(at(hook.residPost(layer)), golden("post"))).toBeLessThan(2e-4);
    }
  });
});

describe("taps that are asked for", () => {
  it("leave the logits as they are, and rows of a batch apart", async () => {
    const model = await compiled("lm-infinite");
    const [plain, tapped] = [
      new Runner(model, { window: 32, threads: 1 }),
      new Runner(model, {
        window: 32,
        threads: 1,
        taps: new Set([hook.residPost(0), hook.residPre(1), hook.mlpOut(2)]),
      }),
    ];
    const run = (runner: Runner, residuals?: Residuals) => {
      const cache = runner.openCache({ window: 32, sinks: 4 });
      cache.allocate();
      cache.allocate();
      const logits = [...runner.decode(cache, 0, [5, 9], residuals === undefined ? {} : { residuals })];
      runner.closeCache(cache);
      return logits;
    };
    const residuals: Residuals = new Map();
    expect(maxDifference(run(tapped, residuals), run(plain))).toBeLessThan(1e-6);
    expect([...residuals.keys()].sort()).toEqual([hook.mlpOut(2), hook.residPost(0), hook.residPre(1)].sort());
    expect(residuals.get(hook.residPre(1))).toEqual(residuals.get(hook.residPost(0)));
    const alone: Residuals = new Map();
    const cache = tapped.openCache({ window: 32, sinks: 4 });
    tapped.decode(cache, cache.allocate(), [9], { residuals: alone });
    tapped.closeCache(cache);
    const width = model.shape.hiddenSize;
    for (const [name, values] of alone)
      expect(maxDifference(residuals.get(name)?.subarray(width) ?? [], values)).toBeLessThan(1e-6);
    plain[Symbol.dispose]();
    tapped[Symbol.dispose]();
  });
});
