import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { type HookName, hook } from "../../../models/hooks.js";
import { hasCut } from "../../../models/sae/edit-cut.js";
import { openSae } from "../../../models/sae/formats/index.js";
import type { SaeDescription } from "../../../models/sae/sae.js";
import { prepareInput } from "../../../models/sae/sae-input.js";
import type { FeatureEdit } from "../../../runtime/contract/features.js";
import { type ResidualEdits, residualEdits } from "../../../runtime/graphs/residual-edits.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { goldenFolder, maxDifference } from "../../golden-tensors.js";
import { writeRandomLlama } from "../../models/random-model.js";
import { rowEncoder } from "../../models/sae/reference/encode.js";
import { rowsOf } from "../../models/sae/reference/rows.js";
import { DescribedSae } from "../saes/described-sae.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const cacheRoot = join(folder, "cache");
afterAll(() => rmSync(folder, { recursive: true }));

const SIZES = { layers: 2, heads: 4, kvHeads: 2, headDim: 8, intermediate: 48, vocab: 64 };

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
    writeRandomLlama(path, { ...SIZES, hidden: sae.dIn });
    const placed = new DescribedSae("a", at, sae);
    const runner = new Runner(await compileModel({ path, precision: "f32", cacheRoot }), {
      window: 16,
      threads: 1,
      taps: new Set(places),
      cuttingSaes: hasCut(sae.activation) ? [placed] : [],
    });
    return {
      edits: (edits: readonly FeatureEdit[]) => residualEdits(edits, () => placed),
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
    ["top-afa-centre", async () => ({ ...(await topAfa("saelens/standard-none")), normalisation: "centre" })],
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
      const prepared = served.edits(edits);
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

  it("of two SAEs at the two names of one place are computed at once, in each row its own", async () => {
    const [topK, topAfaSae] = [await opened("saelens/topk"), await topAfa("saelens/standard-none")];
    using before = new DescribedSae("before", hook.residPost(0), topK);
    using after = new DescribedSae("after", hook.residPre(1), topAfaSae);
    const path = join(folder, "two");
    writeRandomLlama(path, { ...SIZES, hidden: topK.dIn });
    using runner = new Runner(await compileModel({ path, precision: "f32", cacheRoot }), {
      window: 16,
      threads: 1,
      taps: new Set([hook.residPost(0), hook.residPre(1), ...places]),
      cuttingSaes: [before, after],
    });
    const saes = new Map([before, after].map((sae) => [sae.id, sae]));
    const of = (sae: string, from: FeatureEdit["from"]) =>
      Array.from(
        { length: 60 },
        (_, i): FeatureEdit => ({ sae, feature: i * 2, op: ops[i % 4] ?? "add", value: 0.5, from }),
      );
    const edits = [
      [],
      of("before", "kept").slice(20),
      [...of("before", "kept"), ...of("after", "kept")],
      of("after", "pre").slice(0, 9),
    ];
    const prepared = edits.map((each) => residualEdits(each, (id) => saes.get(id) ?? before));
    const cache = runner.openCache({ window: 16, sinks: 2 });
    for (const _ of edits) cache.allocate();
    const residuals: Residuals = new Map();
    runner.decode(cache, 0, tokens.slice(0, edits.length), { residuals, edits: prepared });
    runner.closeCache(cache);
    const rows = (place: HookName) => rowsOf(residuals.get(place) ?? new Float32Array(), topK.dIn);
    for (const [row, x] of rows(hook.residPost(0)).entries()) {
      const [out = [], mid = []] = [rows(hook.attnOut(1))[row], rows(hook.residMid(1))[row]];
      const deltas = [...saes.values()].map(({ id, description }) =>
        edited(description, edits[row]?.filter(({ sae }) => sae === id) ?? [], x).map(
          (value, i) => value - (x[i] ?? 0),
        ),
      );
      const want = [...x].map((value, i) => value + deltas.reduce((sum, delta) => sum + (delta[i] ?? 0), 0));
      const got = mid.map((value, i) => value - (out[i] ?? 0));
      expect(maxDifference(got, want) / Math.max(...want.map(Math.abs))).toBeLessThan(2e-5);
    }
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
      const prepared = served.edits(edits);
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
    using placed = new DescribedSae("a", at, sae);
    const edits = (from: "kept" | "pre") =>
      residualEdits([{ sae: "a", feature: 3, op: "ablate", value: 0, from }], () => placed);
    expect(() => runner.decode(cache, row, [1], { edits: [edits("kept")] })).toThrow(/does not know what a keeps/);
    runner.decode(cache, row, [1], { edits: [edits("pre")] });
    runner.closeCache(cache);
  });
});
