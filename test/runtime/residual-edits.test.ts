import { cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../models/compile.js";
import { type HookName, hook } from "../../models/hooks.js";
import { hasCut } from "../../models/sae/edit-cut.js";
import { rowEncoder, rowsOf } from "../../models/sae/encode.js";
import { rowNorms } from "../../models/sae/folding.js";
import { openSae } from "../../models/sae/index.js";
import type { SaeDescription } from "../../models/sae/sae.js";
import { prepareInput } from "../../models/sae/sae-input.js";
import { openSafetensors } from "../../models/weights/safetensors.js";
import type { FeatureEdit } from "../../runtime/features.js";
import type { PlacedSae } from "../../runtime/graph-resources.js";
import { Tensor } from "../../runtime/ort/tensor.js";
import { type EditableSae, type ResidualEdits, residualEdits } from "../../runtime/residual-edits.js";
import { Runner } from "../../runtime/runner.js";
import type { Residuals } from "../../runtime/tap-outputs.js";
import { goldenFolder, goldenIds, goldenSequences, maxDifference } from "../golden-tensors.js";
import { randomWeights, writeRandomLlama, writeTensors } from "../models/random-model.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const cacheRoot = join(folder, "cache");
afterAll(() => rmSync(folder, { recursive: true }));

const editable = (sae: SaeDescription, at: HookName): EditableSae => ({
  hook: at,
  description: sae,
  encoderColumn: (feature) => Float32Array.from({ length: sae.dIn }, (_, i) => sae.wEnc[i * sae.dSae + feature] ?? 0),
  decoderRow: (feature) => sae.wDec.slice(feature * sae.dOut, (feature + 1) * sae.dOut),
});

describe("editing features of SAEs of every normalisation and activation", () => {
  const layer = 1;
  const tokens = [3, 17, 8, 40, 25, 11];
  const places = [hook.residPre(layer), hook.attnOut(layer), hook.residMid(layer)];
  const at = hook.attnOut(layer);
  const ops = ["ablate", "add", "scale", "clamp"] as const;
  const native = { kind: "native" } as const;

  /** What `x` must become, in float64. */
  function edited(sae: SaeDescription, edits: readonly FeatureEdit[], x: Float32Array): number[] {
    const { activations, cut } = rowEncoder(sae, native)(x);
    const { scale } = prepareInput(sae, x);
    const out = [...x];
    for (const { feature, op, value, from } of edits) {
      const a = from === "pre" || cut.features.includes(feature) ? (activations[feature] ?? 0) : 0;
      const delta = { ablate: -a, add: value, scale: (value - 1) * a, clamp: value - a }[op];
      for (const i of out.keys()) out[i] = (out[i] ?? 0) + delta * scale * (sae.wDec[feature * sae.dOut + i] ?? 0);
    }
    return out;
  }

  /** Features of every kind at these rows: strong and weak ones that are kept, active ones that are not, and the rest. */
  function assorted(sae: SaeDescription, rows: readonly Float32Array[]): number[] {
    const features = rows.slice(0, 2).flatMap((x) => {
      const { activations, shares, cut } = rowEncoder(sae, native)(x);
      const downwards = [...activations.keys()].sort((a, b) => (shares[b] ?? 0) - (shares[a] ?? 0));
      const kept = downwards.filter((feature) => cut.features.includes(feature));
      const dropped = downwards.filter((feature) => !kept.includes(feature) && (activations[feature] ?? 0) > 0);
      const idle = downwards.filter((feature) => !((activations[feature] ?? 0) > 0));
      return [...kept.slice(0, 3), ...kept.slice(-3, -1), ...dropped.slice(1, 4), ...idle.slice(0, 2)];
    });
    return [...new Set(features)];
  }

  const opened = (name: string) => openSae(goldenFolder(`sae/${name}`));
  const topAfa = async (name: string): Promise<SaeDescription> => {
    const sae = await opened(name);
    return { ...sae, bEnc: null, activation: { kind: "top-afa" } };
  };

  /** A model with an SAE; `run` says what `places` hold at each token. */
  async function serve(sae: SaeDescription) {
    const path = join(folder, "d32");
    const sizes = { layers: 2, hidden: sae.dIn, heads: 4, kvHeads: 2, headDim: 8, intermediate: 48, vocab: 64 };
    writeRandomLlama(path, sizes);
    const placed = new PlacedDescription("a", at, sae);
    const runner = new Runner(await compileModel({ path, precision: "f32", cacheRoot }), {
      window: 16,
      threads: 1,
      taps: new Set(places),
      cuttingSaes: hasCut(sae.activation) ? [placed] : [],
    });
    return {
      run(chunk: number, edits: ResidualEdits | null): Float32Array[][] {
        const cache = runner.openCache({ window: 16, sinks: 2 });
        const row = cache.allocate();
        const rows: Float32Array[][] = [];
        for (let start = 0; start < tokens.length; start += chunk) {
          const residuals: Residuals = new Map();
          if (chunk === 1) runner.decode(cache, row, tokens.slice(start, start + 1), { residuals, edits: [edits] });
          else runner.prefill(cache, row, tokens, [], { residuals, edits });
          const held = places.map((place) => rowsOf(residuals.get(place) ?? new Float32Array(), sae.dIn));
          for (let token = 0; token < chunk; token++) rows.push(held.map((each) => each[token] ?? new Float32Array()));
        }
        runner.closeCache(cache);
        return rows;
      },
      [Symbol.dispose]() {
        runner[Symbol.dispose]();
        placed[Symbol.dispose]();
      },
    };
  }

  it.each<[string, () => Promise<SaeDescription>]>([
    ...[
      "saelens/standard-none",
      "saelens/standard-layer_norm",
      "saelens/standard-constant_norm_rescale",
      "saelens/standard-no-b_dec-input",
      "saelens/gated-layer_norm",
      "saelens/gated-none",
      "saelens/jumprelu-none",
      "saelens/jumprelu-layer_norm",
      "saelens/jumprelu-constant_norm_rescale-no-b_dec-input",
      "saelens/topk",
      "saelens/topk-rescale",
      "sparsify/groupmax/layers.1",
      "gemma-scope/plain/layer_1/width_128/average_l0_40",
    ].map((name): [string, () => Promise<SaeDescription>] => [name, () => opened(name)]),
    ...["none", "layer_norm", "constant_norm_rescale", "no-b_dec-input"].map(
      (name): [string, () => Promise<SaeDescription>] => [`top-afa-${name}`, () => topAfa(`saelens/standard-${name}`)],
    ),
  ])("%s", async (_, open) => {
    const sae = await open();
    using served = await serve(sae);
    const { run } = served;
    const unedited = run(1, null).map(([, out = new Float32Array()]) => out);
    const features = assorted(sae, unedited);
    const count = { kept: 0, dropped: 0 };
    for (const from of ["kept", "pre"] as const) {
      const edits = features.map(
        (feature, i): FeatureEdit => ({ sae: "a", feature, op: ops[i % 4] ?? "add", value: i / 4 - 0.75, from }),
      );
      const prepared = residualEdits(edits, () => editable(sae, at));
      for (const chunk of [1, tokens.length]) {
        for (const [pre = [], x = new Float32Array(), mid = []] of run(chunk, prepared)) {
          const want = edited(sae, edits, x).map((value, i) => value + (pre[i] ?? 0));
          expect(maxDifference(mid, want) / Math.max(...want.map(Math.abs))).toBeLessThan(2e-5);
          const { activations, cut } = rowEncoder(sae, native)(x);
          const active = features.filter((feature) => (activations[feature] ?? 0) > 0);
          count.kept += active.filter((feature) => cut.features.includes(feature)).length;
          count.dropped += active.filter((feature) => !cut.features.includes(feature)).length;
        }
      }
    }
    expect(count.kept).toBeGreaterThan(0);
    expect(count.dropped > 0).toBe(hasCut(sae.activation));
  });

  it("of features that are equal, the cut keeps the lowest", async () => {
    const single = await opened("saelens/topk");
    const twin = (values: Float32Array) => values.map((_, i) => values[i - (i % 2)] ?? 0);
    const sae: SaeDescription = {
      ...single,
      wEnc: twin(single.wEnc),
      bEnc: single.bEnc && twin(single.bEnc),
      activation: { kind: "top-k", k: 5 },
    };
    using served = await serve(sae);
    const [, x = new Float32Array()] = served.run(1, null)[0] ?? [];
    const last = rowEncoder(sae, native)(x).cut.features.at(-1) ?? 0;
    expect(last % 2).toBe(0);
    const ablated = (feature: number, chunk: number) => {
      const edits: FeatureEdit[] = [{ sae: "a", feature, op: "ablate", value: 0, from: "kept" }];
      const prepared = residualEdits(edits, () => editable(sae, at));
      const [pre = [], , mid = []] = served.run(chunk, prepared)[0] ?? [];
      return maxDifference(
        mid,
        x.map((value, i) => value + (pre[i] ?? 0)),
      );
    };
    for (const chunk of [1, tokens.length]) {
      expect(ablated(last, chunk)).toBeGreaterThan(1e-3);
      expect(ablated(last + 1, chunk)).toBeLessThan(1e-6);
    }
  });

  it("an edit of an SAE whose cut the graphs do not have is an error, not another edit", async () => {
    const sae = await opened("saelens/topk");
    const path = join(folder, "d32");
    using runner = new Runner(await compileModel({ path, precision: "f32", cacheRoot }), {
      window: 16,
      threads: 1,
      taps: new Set([at]),
    });
    const cache = runner.openCache({ window: 16, sinks: 2 });
    const row = cache.allocate();
    const edits = (from: "kept" | "pre") =>
      residualEdits([{ sae: "a", feature: 3, op: "ablate", value: 0, from }], () => editable(sae, at));
    expect(() => runner.decode(cache, row, [1], { edits: [edits("kept")] })).toThrow(/does not know what a keeps/);
    runner.decode(cache, row, [1], { edits: [edits("pre")] });
    runner.closeCache(cache);
  });
});

/** An SAE's weights as the graphs' inputs. */
class PlacedDescription implements PlacedSae, Disposable {
  readonly #weights = new Map<string, Tensor>();

  constructor(
    readonly id: string,
    readonly hook: HookName,
    readonly outline: SaeDescription,
  ) {
    const { wEnc, wDec, bEnc, bDec, dIn, dSae } = outline;
    const norms = Float32Array.from(rowNorms(wDec, dSae));
    for (const [name, shape, values] of [
      ["W_enc", [dIn, dSae], wEnc],
      ["b_enc", [dSae], bEnc ?? new Float32Array(dSae)],
      ["b_dec", [dIn], bDec],
      ["decoder_norms", [dSae], norms],
    ] as const) {
      const tensor = Tensor.zeros("float32", shape);
      tensor.write(values);
      this.#weights.set(name, tensor);
    }
  }

  weight(name: string): Tensor {
    const tensor = this.#weights.get(name);
    if (tensor === undefined) throw new RangeError(name);
    return tensor;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#weights.values()) tensor[Symbol.dispose]();
  }
}

describe("add on hook_resid_post at every position", () => {
  it.each([0, 1])("is the model with value * W_dec added to the bias of layer %i's down_proj", async (layer) => {
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
    using edited = new Runner(await compile(golden), { window: 64, threads: 1, taps: new Set([sae.hook]) });
    using plain = new Runner(await compile(biased), { window: 64, threads: 1 });
    using untouched = new Runner(await compile(golden), { window: 64, threads: 1 });
    for (const ids of goldenSequences("architectures/llama_bias")) {
      const want = prefilled(plain, ids, null);
      expect(maxDifference(prefilled(edited, ids, edits), want)).toBeLessThan(2e-4);
      expect(maxDifference(decoded(edited, ids, edits), want)).toBeLessThan(2e-4);
      expect(maxDifference(prefilled(untouched, ids, null), want)).toBeGreaterThan(0.1);
    }
  });

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
