import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EPS_LBO_QUANTILES } from "../../../lab/eval/eps-lbo.js";
import { evaluate } from "../../../lab/eval/evaluate.js";
import type { Evaluation, SaeEvaluation, Spliced } from "../../../lab/eval/evaluation.js";
import type { EvaluatedContexts } from "../../../lab/eval/evaluator.js";
import { DENSITY_EDGES } from "../../../lab/eval/feature-counts.js";
import { ZF_BANDS } from "../../../lab/eval/zf-plot.js";
import { ModelWithSaes } from "../../../lab/model/open-saes.js";
import { maxDifference } from "../../golden-tensors.js";
import {
  CONTEXTS,
  floats,
  GOLDEN_MODEL,
  type GoldenLosses,
  type GoldenRecovered,
  integers,
  MASKS,
  type Mask,
  RESULTS,
  SAES,
  saeFolder,
  TOGETHER,
} from "./golden-evaluation.js";

/** What the golden's README asks for. */
const MEAN = 1e-5;
const TOKEN = 5e-5;
const NAT = 2e-5;
const TOKEN_NAT = 2e-4;
const EPS_LBO = 1e-4;

const relative = (got: number, want: number) => Math.abs(got - want) / Math.abs(want);
const absolute = (got: number, want: number) => Math.abs(got - want);
const largest = (values: Float32Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
const row = (values: Float32Array, at: number, width: number) => values.subarray(at * width, (at + 1) * width);

/** Every value against its own. */
function expectEach(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  tolerance: number,
  difference: (got: number, want: number) => number,
): void {
  expect(got.length).toBe(want.length);
  for (let i = 0; i < want.length; i++) expect(difference(got[i]!, want[i]!), `at ${i}`).toBeLessThanOrEqual(tolerance);
}

const cacheDir = mkdtempSync(join(tmpdir(), "lambdatap-"));
let opened: ModelWithSaes;
const evaluations = new Map<Mask, { evaluation: Evaluation; seen: EvaluatedContexts[] }>();

beforeAll(async () => {
  const how = { precision: "f32", device: { kind: "cpu" }, threads: 1, cacheDir } as const;
  const folders = SAES.map((name) => ({ folder: saeFolder(name) }));
  opened = await ModelWithSaes.open({ path: GOLDEN_MODEL, name: "default", ...how }, { folders, anyModel: false });
  for (const [mask, skipStart] of Object.entries(MASKS)) {
    const seen: EvaluatedContexts[] = [];
    const together = opened.saes.filter(({ id }) => TOGETHER.some((name) => name === id));
    const evaluation = await evaluate(
      opened.model,
      opened.saes,
      async function* () {
        yield* CONTEXTS;
      },
      // As many contexts together as the other evaluators were given, whose legacy figures depend on it.
      { skipStart, tokens: Number.POSITIVE_INFINITY, together, contextsAtOnce: 4 },
      { onContexts: (contexts) => seen.push(contexts) },
    );
    evaluations.set(mask === "no_bos" ? "no_bos" : "no_start", { evaluation, seen });
  }
}, 300_000);
afterAll(() => {
  opened[Symbol.dispose]();
  rmSync(cacheDir, { recursive: true });
});

const of = (mask: Mask) => evaluations.get(mask)!;
const saeOf = (mask: Mask, name: string): SaeEvaluation => of(mask).evaluation.saes.find(({ sae }) => sae.id === name)!;

it("is computed with the weights that the expected values belong to", () => {
  const weights = readFileSync(join(GOLDEN_MODEL, "model.safetensors"));
  expect(createHash("sha256").update(weights).digest("hex")).toBe(RESULTS.weights_sha256);
});

it("has the bins and quantiles of the expected values", () => {
  expect(DENSITY_EDGES).toEqual(RESULTS.histogram_edges);
  expect(EPS_LBO_QUANTILES).toEqual(RESULTS.quantiles);
});

describe.each(["no_bos", "no_start"] as const)("the model without SAEs (%s)", (mask) => {
  it("has the expected losses, of all tokens and of each context", () => {
    const { evaluation } = of(mask);
    const want = RESULTS.clean[mask];
    expect([evaluation.predicted, evaluation.tokens, evaluation.contexts]).toEqual([
      want.ce_tokens,
      want.kl_tokens,
      24,
    ]);
    expect(evaluation.clean.ce).toBeCloseTo(want.ce, -Math.log10(NAT));
    const byContext = row(floats("contexts/ce.clean"), mask === "no_bos" ? 0 : 1, 24);
    expectEach(evaluation.clean.byContext, byContext, NAT, absolute);
  });

  it("has the expected means, and loses what is expected when its places are ablated", () => {
    const places = [
      [1, "afa1"],
      [3, "afa3"],
      [5, "afa5"],
      [3, "relu"],
    ] as const;
    for (const [layer, sae] of places) {
      const want = floats(`mean/${layer}/${mask}`);
      const mean = of(mask).evaluation.means.get(`blocks.${layer}.hook_resid_post`) ?? [];
      expect(maxDifference(mean, want)).toBeLessThan(MEAN * largest(want));
      const { zero, mean: toMean, zero_everywhere } = RESULTS.ablated[`blocks.${layer}.hook_resid_post`]![mask];
      const { ablated } = saeOf(mask, sae);
      expectLosses(ablated.zero, zero);
      expectLosses(ablated.mean, toMean);
      expectLosses(ablated.zeroEverywhere, zero_everywhere);
    }
  });
});

function expectLosses(got: GoldenLosses, want: GoldenLosses): void {
  expect(absolute(got.ce, want.ce)).toBeLessThanOrEqual(NAT);
  expect(absolute(got.kl, want.kl)).toBeLessThanOrEqual(NAT);
}

function expectRecovered({ recovered: { zero, mean, zeroEverywhere } }: Spliced, want: GoldenRecovered): void {
  expectEach(
    [zero.ce, zero.kl, mean.ce, mean.kl, zeroEverywhere.ce, zeroEverywhere.kl],
    [
      ...[want.ce_recovered_zero, want.kl_recovered_zero, want.ce_recovered_mean, want.kl_recovered_mean],
      ...[want.ce_recovered_zero_everywhere, want.kl_recovered_zero_everywhere],
    ],
    MEAN,
    absolute,
  );
}

describe.each(SAES.flatMap((name) => (["no_bos", "no_start"] as const).map((mask) => [name, mask] as const)))(
  "%s, %s",
  (name, mask) => {
    const want = RESULTS.saes[name]![mask];
    /** By how much a mean over tokens of something counted may be off. */
    const unsure = want.unsure.decisions / want.tokens + 1e-9;

    it("reconstructs its place as well as expected", () => {
      const { reconstruction: got } = saeOf(mask, name);
      expect(got.tokens).toBe(want.tokens);
      expectEach(
        [got.mse, got.mseSum, got.mseNormalised, got.unexplainedVariance, got.l1, got.l2NormIn, got.l2NormOut],
        [
          want.mse,
          want.mse_sum,
          want.mse_normalised,
          want.unexplained_variance,
          want.l1,
          want.l2_norm_in,
          want.l2_norm_out,
        ],
        MEAN,
        relative,
      );
      expectEach(
        [got.l2Ratio, got.relativeReconstructionBias],
        [want.l2_ratio, want.relative_reconstruction_bias],
        MEAN,
        relative,
      );
      expectEach(
        [got.explainedVariance, got.explainedVarianceNormalised, got.cosine],
        [want.explained_variance, want.explained_variance_normalised, want.cosine],
        MEAN,
        absolute,
      );
      expect(absolute(got.l0, want.l0)).toBeLessThanOrEqual(unsure);
      if (want.k === undefined) expect(got.k).toBeNull();
      else expect(absolute(got.k ?? 0, want.k)).toBeLessThanOrEqual(unsure);
      if (mask === "no_bos") {
        const other = RESULTS.other_definitions["SAEBench 0.6.0, 4 contexts a batch"]?.[name];
        expect(absolute(got.explainedVarianceLegacy, other?.explained_variance_legacy ?? 0)).toBeLessThan(TOKEN);
      }
    });

    it("uses its features as often as expected", () => {
      const { features: got } = saeOf(mask, name);
      const doubtful = integers(`${name}/${mask}/unsure`);
      for (const [figure, tensor] of [
        [got.counts, "count"],
        [got.contexts, "contexts"],
      ] as const)
        for (const [feature, count] of integers(`${name}/${mask}/${tensor}`).entries())
          expect(absolute(figure[feature]!, count)).toBeLessThanOrEqual(doubtful[feature]!);
      expect([got.alive, got.aliveShare, got.neverActive]).toEqual([want.alive, want.alive_share, want.never_active]);
      expect(got.histogram).toEqual(want.density_histogram);
      expect([got.over1Percent, got.over10Percent]).toEqual([want.freq_over_1_percent, want.freq_over_10_percent]);
      const share = want.unsure.decisions / (want.l0 * want.tokens) + 1e-9;
      expect(absolute(got.weightOver1Percent, want.normalized_freq_over_1_percent)).toBeLessThanOrEqual(share);
      expect(absolute(got.weightOver10Percent, want.normalized_freq_over_10_percent)).toBeLessThanOrEqual(share);
      expect([...got.densities]).toEqual(Array.from(got.counts, (count) => count / want.tokens));
    });

    it("leaves as much of the length of its input over as expected", () => {
      const { epsLbo: got, sae } = saeOf(mask, name);
      const scale = sae.compiled.description.dSae - 1;
      expect(got.without).toBe(want.eps_lbo.without);
      expectEps([got.mean, ...got.quantiles], [want.eps_lbo.mean, ...want.eps_lbo.quantiles], scale);
    });

    it("leaves the model the expected losses, of all tokens and of each context", () => {
      const { spliced, byContext } = saeOf(mask, name);
      expectLosses(spliced, want);
      expectRecovered(spliced, want);
      const golden = floats(`${name}/${mask}/by_context`);
      expectEach(byContext.mse, row(golden, 0, 24), TOKEN, relative);
      expectEach(byContext.l0, row(golden, 1, 24), unsure * 24 + 1e-5, absolute);
      expectEach(byContext.cosine, row(golden, 2, 24), TOKEN, absolute);
      expectEach(spliced.byContext.ce, row(golden, 3, 24), NAT, absolute);
      expectEach(spliced.byContext.kl, row(golden, 4, 24), NAT, absolute);
    });
  },
);

/** (h - 1) eps_LBO, relative where it is above 1. @param scale h - 1 */
function expectEps(got: readonly number[], want: readonly number[], scale: number): void {
  for (const [i, value] of want.entries())
    expect(scale * absolute(got[i]!, value), `at ${i}`).toBeLessThanOrEqual(EPS_LBO * Math.max(1, scale * value));
}

describe.each(SAES)("%s, token by token", (name) => {
  const place = SAES.indexOf(name);
  const first = () => of("no_bos").seen[0]!.saes[place]!;

  it("reads what the hook holds", () => {
    const layer = { afa1: 1, jumprelu: 1, afa5: 5, afa3: 3, relu: 3, topk: 3, bad: 3 }[name];
    const want = floats(`residual/${layer}`);
    expect(maxDifference(first().coded.x.subarray(0, want.length), want)).toBeLessThan(MEAN * largest(want));
  });

  it("makes the expected features and reconstructions of the first tokens", () => {
    const { codes } = first().coded;
    const reconstruction = floats(`${name}/reconstruction`);
    const got = codes.reconstruction.subarray(0, reconstruction.length);
    expect(maxDifference(got, reconstruction)).toBeLessThan(MEAN * largest(reconstruction));
    const [active, activations] = [integers(`${name}/active`), floats(`${name}/activations`)];
    const wanted = new Map(Array.from(activations, (value, i) => [`${active[2 * i]} ${active[2 * i + 1]}`, value]));
    expect(codes.starts[8]).toBe(wanted.size);
    for (let token = 0; token < 8; token++)
      for (let i = codes.starts[token]!; i < codes.starts[token + 1]!; i++) {
        const value = wanted.get(`${token} ${codes.features[i]}`) ?? Number.NaN;
        expect(absolute(codes.activations[i]!, value)).toBeLessThanOrEqual(MEAN * largest(activations));
      }
  });

  it("has the expected figures at the first 64 tokens", () => {
    const { coded, losses } = first();
    const { dIn, dSae } = opened.saes[place]!.compiled.description;
    const { figures } = coded;
    const golden = floats(`${name}/first64`);
    const some = (values: Float64Array) => values.subarray(0, 64);
    const rows: readonly (readonly [Float64Array, number, typeof relative])[] = [
      [some(figures.errors).map((value) => value / dIn), TOKEN, relative],
      [some(figures.normalisedErrors).map((value) => value / dIn), TOKEN, relative],
      [some(figures.l0), 0, absolute],
      [some(figures.cosines), TOKEN, absolute],
      [some(figures.ratios), TOKEN, relative],
      [some(figures.l1), TOKEN, relative],
      [some(figures.z), TOKEN, relative],
      [some(figures.f), TOKEN, relative],
    ];
    for (const [i, [got, tolerance, difference]] of rows.entries())
      expectEach(got, row(golden, i, 64), tolerance, difference);
    expectEps([...some(figures.epsLbo)], [...row(golden, 8, 64)], dSae - 1);
    expectEach(some(losses.ce), row(golden, 9, 64), TOKEN_NAT, absolute);
    expectEach(some(losses.kl), row(golden, 10, 64), TOKEN_NAT, absolute);
    if (figures.cuts !== null) expect([...figures.cuts.subarray(0, 64)]).toEqual(integers(`${name}/first64.k`));
    expectEach(some(of("no_bos").seen[0]!.clean.ce), floats("first64/ce.clean"), TOKEN_NAT, absolute);
  });

  it("stands in the ZF plot where expected", () => {
    const [golden, at] = [floats(`${name}/zf`), integers("zf.at")];
    const { dSae, bDec } = opened.saes[place]!.compiled.description;
    const bias = bDec.reduce((sum, value) => sum + value * value, 0);
    for (let point = 0; point < 100; point++) {
      const [context = 0, position = 0] = [at[2 * point], at[2 * point + 1]];
      const { coded } = of("no_bos").seen[Math.floor(context / 4)]!.saes[place]!;
      const token = (context % 4) * 127 + position - 1;
      const { figures, codes } = coded;
      const scale = codes.scales[token]!;
      const want = row(golden, point, 6);
      expectEach(
        [
          ...[figures.zfInputs[token]!, figures.zfOutputs[token]!, scale * figures.z[token]!],
          ...[scale * figures.f[token]!, figures.errors[token]!],
        ],
        want.subarray(0, 5),
        TOKEN,
        relative,
      );
      expect(relative(figures.zfOutputs[token]! ** 2, scale ** 2 * (figures.f[token]! ** 2 + bias))).toBeLessThan(
        TOKEN,
      );
      expectEps([figures.epsLbo[token]!], [want[5]!], dSae - 1);
    }
    const { zf } = saeOf("no_bos", name);
    for (const [i, band] of ZF_BANDS.entries())
      expect(zf.inside[i]).toBeCloseTo(RESULTS.saes[name]?.zf_inside[band] ?? Number.NaN, 9);
  });

  it("has the expected norms and cosines of its weights", () => {
    const { weights } = saeOf("no_bos", name);
    const want = RESULTS.saes[name]!;
    const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(absolute(mean(weights.largestDecoderCosines), want.average_max_decoder_cosine)).toBeLessThan(MEAN);
    expect(absolute(mean(weights.largestEncoderCosines), want.average_max_encoder_cosine)).toBeLessThan(MEAN);
    expectEach(weights.largestDecoderCosines, floats(`${name}/max_decoder_cosine`), MEAN, absolute);
    expectEach(weights.largestEncoderCosines, floats(`${name}/max_encoder_cosine`), MEAN, absolute);
    expectEach(weights.encoderDecoderCosines, floats(`${name}/encoder_decoder_cosine`), MEAN, absolute);
    expectEach(weights.encoderNorms, floats(`${name}/encoder_norm`), MEAN, relative);
    expectEach(weights.decoderNorms, floats(`${name}/decoder_norm`), MEAN, relative);
  });
});

describe.each(["no_bos", "no_start"] as const)("three layers at once (%s)", (mask) => {
  it("leave the model the expected losses, and each sees what those before it have left", () => {
    const got = of(mask).evaluation.allLayers!;
    const want = RESULTS.all_layers[mask];
    expectLosses(got.spliced, want);
    expectRecovered(got.spliced, want);
    const byContext = floats(`all/${mask}/by_context`);
    expectEach(got.spliced.byContext.ce, row(byContext, 0, 24), NAT, absolute);
    expectEach(got.spliced.byContext.kl, row(byContext, 1, 24), NAT, absolute);
    expect(got.inside.map(({ sae }) => sae.id)).toEqual(TOGETHER);
    for (const { sae, reconstruction: inside } of got.inside) {
      const own = want.inside[sae.id]!;
      expectEach(
        [inside.mse, inside.mseNormalised, inside.unexplainedVariance],
        [own.mse, own.mse_normalised, own.unexplained_variance],
        MEAN,
        relative,
      );
      expect(absolute(inside.cosine, own.cosine)).toBeLessThanOrEqual(MEAN);
      expect(absolute(inside.l0, own.l0)).toBeLessThanOrEqual(own.unsure.decisions / inside.tokens + 1e-9);
    }
    // All three places ablated is the last one ablated.
    expectLosses(saeOf(mask, "afa5").ablated.zero, RESULTS.ablated.all![mask].zero);
    expectLosses(saeOf(mask, "afa5").ablated.mean, RESULTS.ablated.all![mask].mean);
    expectLosses(saeOf(mask, "afa5").ablated.zeroEverywhere, RESULTS.ablated.all![mask].zero_everywhere);
    if (mask !== "no_bos") return;
    const first = of(mask).seen[0]!.allLayers!;
    expectEach(first.ce.subarray(0, 64), row(floats("all/first64"), 0, 64), TOKEN_NAT, absolute);
    expectEach(first.kl.subarray(0, 64), row(floats("all/first64"), 1, 64), TOKEN_NAT, absolute);
  });
});
