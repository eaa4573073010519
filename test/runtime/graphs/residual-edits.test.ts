import { cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { type HookName, hook } from "../../../models/hooks.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { openKvRanges } from "../../../runtime/calibration/open-kv-ranges.js";
import type { FeatureEdit } from "../../../runtime/contract/features.js";
import { type EditableSae, type ResidualEdits, residualEdits } from "../../../runtime/graphs/residual-edits.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { goldenFolder, goldenIds, goldenSequences, maxDifference } from "../../golden-tensors.js";
import { randomWeights, writeTensors } from "../../models/random-model.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const cacheRoot = join(folder, "cache");
afterAll(() => rmSync(folder, { recursive: true }));

describe("add on hook_resid_post at every position", () => {
  it.each([0, 1])(
    "is the model with value * W_dec added to the bias of layer %i's down_proj, whatever keys are kept in",
    async (layer) => {
      const golden = goldenFolder("architectures/llama_bias");
      const [width, value] = [48, 1.7];
      const direction = randomWeights(width, 7);
      const biased = join(folder, `biased-${layer}`);
      mkdirSync(biased);
      cpSync(join(golden, "config.json"), join(biased, "config.json"));
      writeBiased(golden, biased, `model.layers.${layer}.mlp.down_proj.bias`, (i) => value * (direction[i] ?? 0));

      const sae: EditableSae = {
        hook: hook.residPost(layer),
        description: {
          dIn: width,
          dSae: 1,
          activation: { kind: "relu" },
          bEnc: null,
          bDec: new Float32Array(width),
          subtractsBDec: true,
          normalisation: "none",
        },
        encoderColumn: () => randomWeights(width, 8),
        decoderRow: () => direction,
      };
      const edits = residualEdits([{ sae: "a", feature: 0, op: "add", value, from: "kept" }], () => sae);
      const compile = (from: string) => compileModel({ path: from, precision: "f32", cacheRoot });
      const ranges = openKvRanges(await compile(biased), { ids: null, threads: 1 });
      for (const kv of [null, { bits: 8, ranges }] as const) {
        const options = { window: 64, threads: 1, kv };
        using edited = new Runner(await compile(golden), { ...options, taps: new Set([sae.hook]) });
        using plain = new Runner(await compile(biased), options);
        using untouched = new Runner(await compile(golden), options);
        for (const ids of goldenSequences("architectures/llama_bias")) {
          const want = prefilled(plain, ids, null);
          expect(maxDifference(prefilled(edited, ids, edits), want)).toBeLessThan(2e-4);
          expect(maxDifference(decoded(edited, ids, edits), want)).toBeLessThan(2e-4);
          expect(maxDifference(prefilled(untouched, ids, null), want)).toBeGreaterThan(0.1);
        }
      }
    },
  );

  function prefilled(runner: Runner, ids: readonly number[], edits: ResidualEdits | null): Float32Array {
    const cache = runner.openCache({ window: 64, sinks: 2 });
    const logits = runner.prefill(cache, cache.allocate(), ids, [...ids.keys()], { edits });
    runner.closeCache(cache);
    return logits;
  }

  function decoded(runner: Runner, ids: readonly number[], edits: ResidualEdits | null): number[] {
    const cache = runner.openCache({ window: 64, sinks: 2 });
    const row = cache.allocate();
    const logits = ids.flatMap((id) => [...runner.decode(cache, row, [id], { edits: [edits] })]);
    runner.closeCache(cache);
    return logits;
  }
});

describe("edits far beyond the window", () => {
  it("give the same logits prefilled in chunks and token by token", async () => {
    const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f32", cacheRoot });
    using runner = new Runner(model, { window: 32, threads: 1, taps: new Set([hook.residPost(0)]) });
    const sae: EditableSae = {
      hook: hook.residPost(0),
      description: {
        dIn: 64,
        dSae: 4,
        activation: { kind: "relu" },
        bEnc: null,
        bDec: randomWeights(64, 3),
        subtractsBDec: true,
        normalisation: "layer_norm",
      },
      encoderColumn: (feature) => randomWeights(64, 10 + feature),
      decoderRow: (feature) => randomWeights(64, 20 + feature),
    };
    const edits = residualEdits(
      [1, 2, 3].map((feature): FeatureEdit => ({ sae: "a", feature, op: "scale", value: feature - 2.5, from: "kept" })),
      () => sae,
    );
    const ids = goldenIds("lm-infinite").slice(0, 120);
    const run = (chunk: number, edited: ResidualEdits | null) => {
      const cache = runner.openCache({ window: 32, sinks: 4 });
      const row = cache.allocate();
      for (let start = 0; start < ids.length - 1; start += chunk) {
        const tokens = ids.slice(start, Math.min(start + chunk, ids.length - 1));
        if (chunk === 1) runner.decode(cache, row, tokens, { edits: [edited] });
        else runner.prefill(cache, row, tokens, [], { edits: edited });
      }
      const logits = runner.decode(cache, row, ids.slice(-1), { edits: [edited] }).slice();
      runner.closeCache(cache);
      return logits;
    };
    const want = run(1, edits);
    for (const chunk of [7, 32]) expect(maxDifference(run(chunk, edits), want)).toBeLessThan(2e-4);
    expect(maxDifference(run(1, null), want)).toBeGreaterThan(0.1);
  });
});

describe("a row beside one with edits", () => {
  it("computes what it computes alone, and what a build without edit inputs does", async () => {
    const golden = goldenFolder("architectures/llama_bias");
    const model = await compileModel({ path: golden, precision: "f32", cacheRoot });
    const at = [hook.residPost(0), hook.residPre(1), hook.mlpOut(1)];
    using runner = new Runner(model, { window: 64, threads: 1, taps: new Set(at) });
    using plain = new Runner(model, { window: 64, threads: 1 });
    const sae = (place: HookName): EditableSae => ({
      hook: place,
      description: {
        dIn: 48,
        dSae: 4,
        activation: { kind: "relu" },
        bEnc: null,
        bDec: new Float32Array(48),
        subtractsBDec: true,
        normalisation: "layer_norm",
      },
      encoderColumn: (feature) => randomWeights(48, feature),
      decoderRow: (feature) => randomWeights(48, 100 + feature),
    });
    const edits = (...places: HookName[]) =>
      residualEdits(
        places.map((place, i): FeatureEdit => ({ sae: place, feature: i, op: "add", value: 3, from: "kept" })),
        (id) => sae(places.find((place) => place === id) ?? hook.residPost(0)),
      );
    const run = (of: Runner, first: number, rows: readonly (ResidualEdits | null)[]) => {
      const cache = of.openCache({ window: 64, sinks: 2 });
      for (let row = 0; row < 3; row++) cache.allocate();
      const steps = [4, 50, 7].map((token) => [
        ...of.decode(
          cache,
          first,
          rows.map((_, row) => token + row),
          { edits: rows },
        ),
      ]);
      of.closeCache(cache);
      return rows.map((_, row) => steps.flatMap((step) => step.slice(row * 128, (row + 1) * 128)));
    };
    const neighbour = edits(hook.residPost(0), hook.residPre(1), hook.mlpOut(1));
    const [edited, beside] = run(runner, 0, [neighbour, null]);
    const [, alone] = run(runner, 0, [null, null]);
    const [without, without1] = run(plain, 0, [null, null]);
    expect(maxDifference(beside ?? [], alone ?? [])).toBeLessThan(2e-4);
    expect(maxDifference(beside ?? [], without1 ?? [])).toBeLessThan(2e-4);
    expect(maxDifference(edited ?? [], without ?? [])).toBeGreaterThan(0.1);
    // Two names of one tensor: both edits are read from the same residual and happen together.
    const [together] = run(runner, 0, [edits(hook.residPost(0), hook.residPre(1))]);
    const [twice] = run(runner, 0, [
      residualEdits(
        [0, 1].map((feature): FeatureEdit => ({ sae: "a", feature, op: "add", value: 3, from: "kept" })),
        () => sae(hook.residPre(1)),
      ),
    ]);
    expect(maxDifference(together ?? [], twice ?? [])).toBeLessThan(1e-4);
  });
});

function writeBiased(from: string, to: string, name: string, added: (i: number) => number): void {
  using file = openSafetensors(join(from, "model.safetensors"));
  const tensors = [...file.tensors].map(([tensor, { shape }]) => {
    const values = file.readF32(tensor);
    return { name: tensor, shape, values: tensor === name ? values.map((value, i) => value + added(i)) : values };
  });
  expect(tensors.map((tensor) => tensor.name)).toContain(name);
  writeTensors(join(to, "model.safetensors"), tensors);
}
