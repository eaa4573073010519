import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { hook } from "../../../models/hooks.js";
import { openSae } from "../../../models/sae/formats/index.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { InvalidRequest } from "../../../runtime/contract/errors.js";
import type { FeatureEdit, FeatureRequest, SaeReading } from "../../../runtime/contract/features.js";
import type { GenerationEvent } from "../../../runtime/contract/generation.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { maxDifference } from "../../golden-tensors.js";
import { readFeatures } from "../../models/sae/reference/features.js";
import { type Asked, idsOf, ofKind, promptLogprobs, sequenceRequest } from "../engine/requests.js";
import { begin, read, run, smallEngines } from "../engine/small-engine.js";

const { cacheDir, startEngine } = smallEngines();

/** The embedded model with its SAEs, and a window that texts of the tests leave. */
const MODEL = join("models", "default");
const engine = await startEngine({ model: MODEL, window: 48, sinks: 4 });
/** One for each hook. */
const SAES = engine.card.saes.map(({ id }) => id).filter((id) => !id.endsWith(".sparse"));
const [FIRST = "", MIDDLE = "", LAST = ""] = SAES;
const prompt = [
  0,
  ...(await engine.encode("Once upon a time there was a king who had three daughters, and the youngest")),
];

const features = (asked: Partial<FeatureRequest> = {}): FeatureRequest => ({
  saes: SAES,
  top: 8,
  activation: { kind: "native" },
  prompt: true,
  ...asked,
});

/** Readings by position: of the prompt, if asked for, then of generated tokens. */
function readingsOf(events: readonly GenerationEvent[], index = 0): Map<number, readonly SaeReading[]> {
  const readings = new Map<number, readonly SaeReading[]>();
  for (const event of ofKind(events, "features", index))
    for (const [i, each] of event.readings.entries()) readings.set(event.start + i, each);
  for (const { pos, features } of ofKind(events, "token", index)) if (features) readings.set(pos, features);
  return readings;
}

/** Same up to f32: scalars to 1e-4 of their size, l0 to a feature or two at the cut, the strong features one by one. */
function expectSame(
  got: readonly SaeReading[] | undefined,
  want: readonly Omit<SaeReading, "sae">[] | undefined,
): void {
  expect(got).toHaveLength(want?.length ?? Number.NaN);
  for (const [i, a] of (got ?? []).entries()) {
    const b = want?.[i];
    if (b === undefined) continue;
    expect(Math.abs(a.z - b.z) / b.z).toBeLessThan(1e-4);
    expect(Math.abs(a.f - b.f) / b.f).toBeLessThan(1e-3);
    expect(Math.abs(a.mse - b.mse) / b.mse).toBeLessThan(1e-2);
    expect(Math.abs(a.l0 - b.l0)).toBeLessThan(3);
    const others = new Map([...b.indices].map((feature, at) => [feature, b.values[at] ?? 0]));
    const largest = b.values[0] ?? 0;
    for (const [at, feature] of [...a.indices].slice(0, -2).entries())
      expect(Math.abs((a.values[at] ?? 0) - (others.get(feature) ?? Number.NaN))).toBeLessThan(1e-3 * largest);
  }
}

describe("features of a token", () => {
  const asked: Asked = { prompt, maxTokens: 60, features: features() };

  it("are there for every token, prompt and generated, in order", async () => {
    const events = await run(engine, asked);
    const starts = ofKind(events, "features").map(({ start, readings }) => [start, readings.length] as const);
    expect(starts.reduce((next, [start, length]) => (start === next ? next + length : Number.NaN), 0)).toBe(
      prompt.length,
    );
    const tokens = ofKind(events, "token");
    expect(tokens.map(({ pos }) => pos)).toEqual(tokens.map((_, i) => prompt.length + i));
    expect(tokens).toHaveLength(60);
    for (const { features: readings } of tokens) expect(readings?.map(({ sae }) => sae)).toEqual(SAES);
    expect(events.at(-1)).toMatchObject({ type: "end", completionTokens: 60 });
  });

  it("are the same prefilled, decoded, and beside other requests, far beyond the window", async () => {
    const events = await run(engine, asked);
    const whole = [...prompt, ...idsOf(events)];
    const decoded = readingsOf(events);
    const sampled = { ...asked, sampling: { ...sequenceRequest({}).sampling, temperature: 1 } };
    const [prefilled, beside] = await Promise.all([
      run(engine, { prompt: whole, maxTokens: 0, features: features() }),
      run(engine, { prompt: whole, maxTokens: 0, features: features() }, asked, sampled),
    ]);
    expect(decoded.size).toBe(whole.length);
    for (const other of [prefilled, beside]) {
      const readings = readingsOf(other);
      expect(readings.size).toBe(whole.length);
      for (const [pos, reading] of readings) expectSame(reading, decoded.get(pos));
    }
  });

  it("are what the reference finds in the residual stream of its own position", async () => {
    const model = await compileModel({ path: MODEL, precision: "f32", cacheRoot: cacheDir });
    using runner = new Runner(model, { window: 48, threads: 1, taps: new Set([hook.residPost(3)]) });
    const cache = runner.openCache({ window: 48, sinks: 4 });
    const residuals: Residuals = new Map();
    runner.prefill(cache, cache.allocate(), prompt, [], { residuals });
    runner.closeCache(cache);
    const sae = await openSae(join(MODEL, "saes", "blocks.3.hook_resid_post"));
    const x = residuals.get(hook.residPost(3)) ?? new Float32Array();
    for (const activation of [{ kind: "native" }, { kind: "top-afa" }, { kind: "top-k", k: 5 }] as const) {
      const events = await run(engine, {
        prompt,
        maxTokens: 0,
        features: features({ saes: [MIDDLE], activation, top: 4 }),
      });
      const want = readFeatures(sae, x, activation).map((row) => ({ ...row, mse: row.mse ?? Number.NaN }));
      for (const [pos, reading] of readingsOf(events)) {
        expectSame(reading, want.slice(pos, pos + 1));
        expect(reading[0]?.indices).toHaveLength(4);
        expect(Math.abs((reading[0]?.epsLbo ?? 0) - (want[pos]?.epsLbo ?? 0))).toBeLessThan(1e-6);
      }
    }
  });

  it("are only those asked for", async () => {
    const events = await run(engine, {
      prompt,
      maxTokens: 3,
      features: features({ saes: [LAST, FIRST], top: 0, prompt: false }),
    });
    expect(ofKind(events, "features")).toEqual([]);
    for (const { features: readings } of ofKind(events, "token")) {
      expect(readings?.map(({ sae }) => sae)).toEqual([LAST, FIRST]);
      expect(readings?.every(({ indices, l0 }) => indices.length === 0 && l0 > 0)).toBe(true);
    }
    const none = await run(engine, { prompt, maxTokens: 3 });
    expect(ofKind(none, "token").every((token) => token.features === null)).toBe(true);
  });

  it("do not change the text, also where it stops", async () => {
    const stopped = { prompt, maxTokens: 40, stop: [" and"] };
    for (const request of [
      asked,
      stopped,
      { ...stopped, stop: [], stopTokenIds: [idsOf(await run(engine, asked))[7] ?? 0] },
    ]) {
      const [with_, without] = await Promise.all([
        run(engine, { ...request, features: features({ prompt: false }) }),
        run(engine, { ...request, features: null }),
      ]);
      expect(idsOf(with_)).toEqual(idsOf(without));
      expect(with_.at(-1)).toEqual(without.at(-1));
      expect(ofKind(with_, "token").every((token) => token.features !== null)).toBe(true);
    }
  });
});

describe("edits", () => {
  const edit = (op: FeatureEdit["op"], value: number, feature: number, sae = FIRST): FeatureEdit => ({
    sae,
    feature,
    op,
    value,
    from: "kept",
  });
  /** Activations at the prompt's tokens, chosen as asked. */
  const activations = async (activation: FeatureRequest["activation"]) => {
    const asked = features({ saes: [FIRST], top: 1024, activation });
    const readings = readingsOf(await run(engine, { prompt, maxTokens: 0, features: asked }));
    return [...readings.values()].map(
      ([reading]) => new Map(Array.from(reading?.indices ?? [], (feature, i) => [feature, reading?.values[i] ?? 0])),
    );
  };
  const evaluated = { prompt, maxTokens: 0, promptLogprobs: 0, editsFrom: "prompt" } as const;

  it("are read before they happen, and seen by later layers", async () => {
    const plain = readingsOf(await run(engine, { prompt, maxTokens: 0, features: features() }));
    const strong = plain.get(9)?.[0]?.indices[0] ?? 0;
    const request = { prompt, maxTokens: 0, features: features(), editsFrom: "prompt" } as const;
    const edited = readingsOf(await run(engine, { ...request, edits: [edit("scale", 4, strong)] }));
    for (const [pos, [first]] of plain) expectSame(edited.get(pos)?.slice(0, 1), first && [first]);
    const [, before] = plain.get(9) ?? [];
    const [, after] = edited.get(9) ?? [];
    expect(Math.abs((after?.z ?? 0) - (before?.z ?? 0)) / (before?.z ?? 1)).toBeGreaterThan(1e-3);
  });

  it("ablate is scale by 0 and clamp to 0; scale by 1 changes nothing", async () => {
    const plain = promptLogprobs(await run(engine, evaluated));
    const strong =
      readingsOf(await run(engine, { prompt, maxTokens: 0, features: features() })).get(9)?.[0]?.indices[0] ?? 0;
    const logprobs = async (edits: readonly FeatureEdit[]) =>
      promptLogprobs(await run(engine, { ...evaluated, edits }));
    const ablated = await logprobs([edit("ablate", 0, strong)]);
    expect(maxDifference(ablated, plain)).toBeGreaterThan(0.01);
    expect(maxDifference(await logprobs([edit("scale", 0, strong)]), ablated)).toBeLessThan(1e-4);
    expect(maxDifference(await logprobs([edit("clamp", 0, strong)]), ablated)).toBeLessThan(1e-4);
    expect(maxDifference(await logprobs([edit("scale", 1, strong)]), plain)).toBeLessThan(1e-4);
  });

  it("start from what the SAE keeps, or from before its cut if they are asked to", async () => {
    const [kept, active] = await Promise.all([
      activations({ kind: "native" }),
      activations({ kind: "top-k", k: 1024 }),
    ]);
    const strongest = (of: readonly ReadonlyMap<number, number>[], but: (feature: number) => boolean) =>
      of
        .flatMap((each) => [...each])
        .filter(([feature]) => !but(feature))
        .sort(([, a], [, b]) => b - a)[0]?.[0] ?? 0;
    const isKept = (feature: number) => kept.some((each) => each.has(feature));
    const silent = strongest(active, isKept);
    const firing = strongest(kept, () => false);
    const logprobs = async (...edits: readonly FeatureEdit[]) =>
      promptLogprobs(await run(engine, { ...evaluated, edits }));
    const unchanged = await logprobs(edit("add", 0, silent));
    for (const [op, value] of [
      ["ablate", 0],
      ["scale", -7],
    ] as const) {
      expect(await logprobs(edit(op, value, silent))).toEqual(unchanged);
      expect(maxDifference(await logprobs({ ...edit(op, value, silent), from: "pre" }), unchanged)).toBeGreaterThan(
        1e-4,
      );
    }
    expect(await logprobs(edit("clamp", 3, silent))).toEqual(await logprobs(edit("add", 3, silent)));
    expect(maxDifference(await logprobs(edit("ablate", 0, firing)), unchanged)).toBeGreaterThan(0.01);
    // All at once, in several SAEs; what is not kept makes no difference to the others.
    const others = [edit("scale", 2, firing), edit("clamp", 2, 5, LAST)];
    const beside = await logprobs(...others, edit("ablate", 0, silent));
    expect(maxDifference(beside, await logprobs(...others))).toBeLessThan(1e-5);
  });

  it("begin with the last prompt token, unless they are asked for from the first", async () => {
    const edits = [edit("add", 12, 5, MIDDLE)];
    const request = { prompt, maxTokens: 12, logprobs: 0, edits, features: features() };
    const [generation, fromPrompt, plain] = await Promise.all([
      run(engine, request),
      run(engine, { ...request, editsFrom: "prompt" as const }),
      run(engine, { ...request, edits: [] }),
    ]);
    const last = (events: readonly GenerationEvent[], pos: number) => readingsOf(events).get(pos)?.slice(2);
    expectSame(last(generation, 3), last(plain, 3));
    expect(last(fromPrompt, 3)?.[0]?.z).not.toBeCloseTo(last(plain, 3)?.[0]?.z ?? 0, 2);
    expect(last(generation, prompt.length - 1)?.[0]?.z).not.toBeCloseTo(last(plain, prompt.length - 1)?.[0]?.z ?? 0, 2);
    const first = (events: readonly GenerationEvent[]) => ofKind(events, "token")[0]?.logprobs?.logprob ?? 0;
    expect(Math.abs(first(generation) - first(plain))).toBeGreaterThan(1e-3);
  });

  it("leave neighbours as they are alone", async () => {
    const request = { prompt, maxTokens: 30, logprobs: 0 };
    const alone = await run(engine, request);
    const events = await run(engine, { ...request, edits: [edit("add", 20, 3)] }, request, {
      ...request,
      edits: [edit("clamp", 9, 3)],
    });
    const logprobs = (of: readonly GenerationEvent[], index: number) =>
      ofKind(of, "token", index).map((token) => token.logprobs?.logprob ?? 0);
    expect(idsOf(events, 1)).toEqual(idsOf(alone));
    expect(maxDifference(logprobs(events, 1), logprobs(alone, 0))).toBeLessThan(2e-4);
    expect(idsOf(events, 0)).not.toEqual(idsOf(alone));
  });

  it("of the largest size end in numbers or in an error of their own sequence", async () => {
    const events = await run(
      engine,
      { prompt, edits: [edit("add", 1e6, 3), edit("scale", 1e6, 4), edit("add", -1e6, 3, LAST)] },
      { prompt },
    );
    expect(ofKind(events, "end", 0).length + ofKind(events, "error", 0).length).toBe(1);
    expect(ofKind(events, "end", 1)).toHaveLength(1);
    expect(idsOf(await run(engine, { prompt }))).toEqual(idsOf(events, 1));
  });
});

describe("a request for features that this engine cannot serve", () => {
  it.each<[string, Asked, string]>([
    ["an unknown SAE", { features: features({ saes: ["nope"] }) }, "features.saes"],
    ["no SAE", { features: features({ saes: [] }) }, "features.saes"],
    [
      "a k beyond the width",
      { features: features({ activation: { kind: "top-k", k: 5000 } }) },
      "features.activation.top_k",
    ],
    ["a top of -1", { features: features({ top: -1 }) }, "features.top"],
    ["an edit of an unknown SAE", { edits: [{ sae: "nope", feature: 0, op: "add", value: 1, from: "kept" }] }, "edits"],
    [
      "an edit of an unknown feature",
      { edits: [{ sae: SAES[0] ?? "", feature: 1024, op: "add", value: 1, from: "kept" }] },
      "edits",
    ],
    [
      "an edit by NaN",
      { edits: [{ sae: SAES[0] ?? "", feature: 0, op: "add", value: Number.NaN, from: "kept" }] },
      "edits",
    ],
    [
      "two edits of one feature",
      { edits: [1, 2].map((value) => ({ sae: SAES[0] ?? "", feature: 0, op: "clamp", value, from: "kept" })) },
      "edits",
    ],
    ["an edit by 1e7", { edits: [{ sae: SAES[0] ?? "", feature: 0, op: "add", value: 1e7, from: "kept" }] }, "edits"],
  ])("%s is refused by name", (_, request, param) => {
    expect(() => begin(engine, { prompt, ...request })).toThrow(expect.objectContaining({ param }));
  });
});

describe("a feature's description", () => {
  it("has the logits of its decoder row through the final norm's gain, and its nearest neighbours", async () => {
    const sae = await openSae(join(MODEL, "saes", "blocks.5.hook_resid_post"));
    const rowOf = (feature: number) => sae.wDec.subarray(feature * sae.dOut, (feature + 1) * sae.dOut);
    using weights = openSafetensors(join(MODEL, "model.safetensors"));
    const embedding = weights.readF32("model.embed_tokens.weight");
    const gain = weights.readF32("model.norm.weight");
    const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
    const feature = 77;
    const scaled = rowOf(feature).map((value, i) => value * (gain[i] ?? 0));
    const logits = Array.from({ length: 4096 }, (_, id) => dot(scaled, embedding.subarray(id * 192, (id + 1) * 192)));
    const order = logits.map((_, id) => id).sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0));
    const described = await engine.describeFeature(LAST, feature, 5);
    expect(described.topTokens.map(({ tokenId }) => tokenId)).toEqual(order.slice(0, 5));
    expect(described.bottomTokens.map(({ tokenId }) => tokenId)).toEqual(order.slice(-5).reverse());
    for (const { tokenId, logit } of [...described.topTokens, ...described.bottomTokens])
      expect(Math.abs(logit - (logits[tokenId] ?? 0))).toBeLessThan(1e-4);
    const norm = (of: Float32Array) => Math.sqrt(dot(of, of));
    expect(Math.abs(described.decoderNorm - norm(rowOf(feature)))).toBeLessThan(1e-5);
    const cosines = Array.from({ length: 1024 }, (_, other) => ({
      feature: other,
      cosine: dot(rowOf(other), rowOf(feature)) / norm(rowOf(other)) / norm(rowOf(feature)),
    })).filter(({ feature: other }) => other !== feature);
    const nearest = cosines.sort((a, b) => b.cosine - a.cosine).slice(0, 5);
    expect(described.nearest.map((each) => each.feature)).toEqual(nearest.map((each) => each.feature));
    expect(
      maxDifference(
        described.nearest.map(({ cosine }) => cosine),
        nearest.map(({ cosine }) => cosine),
      ),
    ).toBeLessThan(1e-5);
  });

  it("is refused for what is not there, and does not disturb a running text", async () => {
    const text = begin(engine, { prompt, maxTokens: 60 });
    const [events, ...refused] = await Promise.all([
      read(text),
      ...[() => engine.describeFeature("nope", 0, 5), () => engine.describeFeature(LAST, 1024, 5)].map((ask) =>
        ask().catch((error: unknown) => error),
      ),
      engine.describeFeature(FIRST, 1, 3),
    ]);
    expect(refused.slice(0, 2).every((error) => error instanceof InvalidRequest)).toBe(true);
    expect(idsOf(events)).toEqual(idsOf(await run(engine, { prompt, maxTokens: 60 })));
  });
});
