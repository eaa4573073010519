import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { type HookName, hook, isResidualHook } from "../../../models/hooks.js";
import { type EditableSae, residualEdits } from "../../../runtime/graphs/residual-edits.js";
import type { ResidualPatches, RowPatches } from "../../../runtime/graphs/residual-patches.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { goldenArchitectures, goldenFolder, goldenSequences, maxDifference } from "../../golden-tensors.js";
import { randomWeights } from "../../models/random-model.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const LLAMA = "architectures/llama_bias";

/** A golden model with taps, run over texts of which each may be patched. */
async function opened(name: string, taps?: readonly HookName[], precision: "f32" | "f16" = "f32") {
  const model = await compileModel({ path: goldenFolder(name), precision, cacheRoot });
  const runner = new Runner(model, { window: 64, threads: 1, taps: new Set(taps ?? model.hooks) });
  const run = (
    texts: readonly { readonly ids: readonly number[]; readonly patches?: ResidualPatches | null }[],
    edits: ReturnType<typeof residualEdits> | null = null,
  ) => {
    const cache = runner.openCache({ window: 64, sinks: 2 });
    const held = texts.map((): Residuals => new Map());
    const logits = runner.prefillTogether(
      cache,
      texts.map(({ ids, patches = null }, i) => ({
        ...{ row: cache.allocate(), ids, wanted: [...ids.keys()], patches, edits, residuals: held[i]! },
      })),
    );
    runner.closeCache(cache);
    return { logits, held };
  };
  return {
    run,
    hooks: model.hooks.filter(isResidualHook),
    width: model.shape.hiddenSize,
    [Symbol.dispose]: () => runner[Symbol.dispose](),
  };
}

const everywhere = (values: Float32Array | undefined, width: number) => ({
  rows: Array.from({ length: (values?.length ?? 0) / width }, (_, i) => i),
  values: values ?? new Float32Array(),
});

describe.each(goldenArchitectures().map(({ name }) => name))("patches of %s", (name) => {
  it("with a hook's own values change nothing, and with those of another text's stream give its logits", async () => {
    using model = await opened(`architectures/${name}`);
    const [first = [], second = []] = goldenSequences(`architectures/${name}`);
    const length = Math.min(first.length, second.length, 40);
    const [ids, other] = [first.slice(0, length), second.slice(0, length)];
    const clean = model.run([{ ids }, { ids: other }]);
    const [own, others] = clean.held;
    const set = (from: Residuals | undefined, hooks: readonly HookName[]): ResidualPatches =>
      new Map(hooks.map((at) => [at, everywhere(from?.get(at), model.width)]));
    const single = model.hooks.filter((at) => !at.endsWith("resid_pre") || at.startsWith("blocks.0."));
    const itself = model.run([{ ids, patches: set(own, single) }, { ids: other }]);
    for (const text of [0, 1])
      expect(maxDifference(itself.logits[text]!, clean.logits[text]!)).toBeLessThan(
        1e-5 * scaleOf(clean.logits[text]!),
      );
    for (const at of [hook.residPre(0), hook.residPost(0), hook.residPre(1)]) {
      const swapped = model.run([{ ids, patches: set(others, [at]) }]);
      expect(maxDifference(swapped.logits[0]!, clean.logits[1]!)).toBeLessThan(1e-4 * scaleOf(clean.logits[1]!));
      // What a hook holds is what came in.
      expect(maxDifference(swapped.held[0]!.get(at)!, own!.get(at)!)).toBeLessThan(1e-4 * scaleOf(own!.get(at)!));
    }
  });
});

const scaleOf = (values: Float32Array) => Math.max(1, ...values.map(Math.abs));

describe("a patch", () => {
  const [ids = []] = goldenSequences(LLAMA).map((sequence) => sequence.slice(0, 12));

  it("at one token changes it and what follows, and nothing before it", async () => {
    using model = await opened(LLAMA);
    const { logits } = model.run([{ ids }]);
    const values = randomWeights(model.width, 3);
    const patched = model.run([{ ids, patches: new Map([[hook.mlpOut(0), { rows: [5], values }]]) }]);
    const vocab = logits[0]!.length / ids.length;
    const difference = (token: number) => {
      const at = (of: Float32Array) => of.subarray(token * vocab, (token + 1) * vocab);
      return maxDifference(at(patched.logits[0]!), at(logits[0]!));
    };
    for (let token = 0; token < 5; token++) expect(difference(token)).toBeLessThan(1e-5);
    for (let token = 5; token < ids.length; token++) expect(difference(token)).toBeGreaterThan(1e-3);
  });

  it("comes before edits, which start from what was set", async () => {
    const at = hook.residPost(0);
    using model = await opened(LLAMA, [at]);
    const direction = randomWeights(model.width, 8);
    const sae: EditableSae = {
      hook: at,
      description: {
        ...{ dIn: model.width, dSae: 1, activation: { kind: "relu" }, bEnc: null, subtractsBDec: true },
        ...{ bDec: new Float32Array(model.width), normalisation: "none" },
      },
      encoderColumn: () => randomWeights(model.width, 7),
      decoderRow: () => direction,
    };
    const edits = residualEdits([{ sae: "a", feature: 0, op: "add", value: 3, from: "kept" }], () => sae);
    const values = randomWeights(ids.length * model.width, 4);
    const rows = [...ids.keys()];
    const both = model.run([{ ids, patches: new Map([[at, { rows, values }]]) }], edits);
    const sum = values.map((value, i) => value + 3 * direction[i % model.width]!);
    const want = model.run([{ ids, patches: new Map([[at, { rows, values: sum }]]) }]);
    expect(maxDifference(both.logits[0]!, want.logits[0]!)).toBeLessThan(1e-5);
  });

  it("under either name of a place is the same one", async () => {
    for (const tapped of [hook.residPost(0), hook.residPre(1)]) {
      using model = await opened(LLAMA, [tapped]);
      const values = randomWeights(2 * model.width, 5);
      const of = (name: HookName, at: number[]) =>
        model.run([
          { ids, patches: new Map([[name, { rows: at, values: values.subarray(0, at.length * model.width) }]]) },
        ]);
      const [post, pre] = [of(hook.residPost(0), [3, 4]), of(hook.residPre(1), [3, 4])];
      expect(pre.logits).toEqual(post.logits);
      const halves = model.run([
        {
          ids,
          patches: new Map([
            [hook.residPost(0), { rows: [4], values: values.subarray(model.width) }],
            [hook.residPre(1), { rows: [3], values: values.subarray(0, model.width) }],
          ]),
        },
      ]);
      expect(halves.logits).toEqual(post.logits);
    }
  });

  it("in 16 bits with a stream's own values changes no more than 16 bits do", async () => {
    using model = await opened(LLAMA, [hook.residPost(0), hook.residMid(1)], "f16");
    const clean = model.run([{ ids }]);
    const patches = new Map([...clean.held[0]!].map(([at, values]) => [at, everywhere(values, model.width)]));
    const patched = model.run([{ ids, patches }]);
    expect(maxDifference(patched.logits[0]!, clean.logits[0]!)).toBeLessThan(2 ** -9 * scaleOf(clean.logits[0]!));
  });

  it("is refused where it makes no sense, by hook and row", async () => {
    const at = hook.residPost(0);
    using model = await opened(LLAMA, [at]);
    const run = (patches: ResidualPatches) => () => model.run([{ ids, patches }]);
    const values = new Float32Array(2 * model.width);
    const set = (rows: number[], given = values) => new Map([[at, { rows, values: given }]]);
    expect(run(set([0, 12]))).toThrow(`patches at ${at}: there is no row 12 among 12`);
    expect(run(set([-1, 1]))).toThrow(/there is no row -1 among 12/);
    expect(run(set([0.5, 1]))).toThrow(/there is no row 0.5 among 12/);
    expect(run(set([3, 3]))).toThrow(`patches at ${at}: row 3 is set twice`);
    expect(run(set([1]))).toThrow(`patches at ${at}: 1 rows of ${model.width} are not ${2 * model.width} values`);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY])
      expect(run(set([1, 7], values.with(model.width + 1, bad)))).toThrow(`row 7 is set to ${bad}`);
    const twice = new Map<HookName, RowPatches>([...set([3, 4]), [hook.residPre(1), { rows: [4, 5], values }]]);
    expect(run(twice)).toThrow(`patches at ${hook.residPre(1)}: row 4 is set twice`);
    expect(run(new Map([[hook.mlpOut(0), { rows: [0, 1], values }]]))).toThrow(
      /blocks.0.hook_mlp_out: it is not tapped/,
    );
    // What was refused leaves the next run as it is.
    expect(model.run([{ ids, patches: set([], new Float32Array()) }]).logits[0]?.length).toBeGreaterThan(0);
  });
});
