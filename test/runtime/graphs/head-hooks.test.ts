import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { type HookName, hook, hookWidth, isResidualHook } from "../../../models/hooks.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { goldenFolder, goldenIds, goldenSequences, maxDifference } from "../../golden-tensors.js";
import { graphOf } from "../../graph-types.js";

const TOLERANCE = 2e-4;
const WINDOW = 64;
const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const compiled = (name: string) => compileModel({ path: goldenFolder(name), precision: "f32", cacheRoot });

/** What transformers has at the hooks of a model's first sequence. */
function goldenHooks(name: string): Map<string, Float32Array> {
  using file = openSafetensors(goldenFolder(`heads/${name}.safetensors`));
  return new Map([...file.tensors.keys()].map((key) => [key, file.readF32(key)]));
}

/** The same from the graphs that texts are served with, prefilled in chunks or decoded (chunk 1). */
function served(
  runner: Runner,
  ids: readonly number[],
  chunk: number,
  geometry = { window: WINDOW, sinks: 2 },
): Map<HookName, number[]> {
  const all = new Map<HookName, number[]>();
  const cache = runner.openCache(geometry);
  const row = cache.allocate();
  for (let start = 0; start < ids.length; start += chunk) {
    const residuals: Residuals = new Map();
    const tokens = ids.slice(start, start + chunk);
    if (chunk === 1) runner.decode(cache, row, tokens, { residuals });
    else runner.prefill(cache, row, tokens, [], { residuals });
    for (const [at, values] of residuals) all.set(at, [...(all.get(at) ?? []), ...values]);
  }
  runner.closeCache(cache);
  return all;
}

const FAR = "lm-infinite";
const families = readdirSync(goldenFolder("heads"))
  .map((file) => file.replace(".safetensors", ""))
  .filter((name) => name !== FAR);

describe.each(families)("%s: queries, keys, values and what attention makes of them", (name) => {
  it("are those of transformers, in whole texts, chunks and single tokens", async () => {
    const model = await compiled(`architectures/${name}`);
    const golden = goldenHooks(name);
    using runner = new Runner(model, { window: WINDOW, threads: 1, taps: new Set(model.hooks) });
    const [ids = []] = goldenSequences(`architectures/${name}`);
    const whole = runner.activations([ids]);
    const ways = [whole, served(runner, ids, 9), served(runner, ids, 1)];
    const known = model.hooks.filter((at) => golden.has(at));
    expect(known.filter((at) => !isResidualHook(at))).toHaveLength(8);
    for (const at of known)
      for (const values of ways)
        expect(maxDifference(values.get(at) ?? [], golden.get(at)!), at).toBeLessThan(TOLERANCE);
    for (const at of model.hooks) {
      expect(whole.get(at)?.length, at).toBe(ids.length * hookWidth(at, model.shape));
      expect(maxDifference(whole.get(at)!, ways[1]!.get(at)!), at).toBeLessThan(TOLERANCE);
    }
  });
});

describe("what attention makes of values far past the window, as the authors of LM-Infinite have it", () => {
  it.each([
    [FAR, "rope"],
    ["lm-infinite-alibi", "alibi"],
  ])("%s", async (name, kind) => {
    const model = await compiled(name);
    const hooks = [hook.attended(1), hook.attended(2)];
    const golden = goldenHooks(FAR);
    using runner = new Runner(model, { window: 32, threads: 1, taps: new Set(hooks) });
    for (const chunk of [32, 1]) {
      const values = served(runner, goldenIds(name), chunk, { window: 32, sinks: 4 });
      for (const at of hooks)
        expect(maxDifference(values.get(at)!, golden.get(`${kind}.lambda_w32_g4.${at}`)!)).toBeLessThan(TOLERANCE);
    }
  });
});

describe("texts that run together", () => {
  it("hold what each holds alone, and only as far as the last hook is anything run", async () => {
    const model = await compiled("lm-infinite");
    const read = (taps: readonly HookName[], texts: readonly number[][]) => {
      using runner = new Runner(model, { window: 32, threads: 1, taps: new Set(taps) });
      return runner.activations(texts);
    };
    const texts = [0, 1, 2].map((text) => Array.from({ length: 20 }, (_, i) => (i * 7 + text * 31) % 100));
    const at = hook.attended(1);
    const together = read([at], texts).get(at)!;
    const width = together.length / 3;
    for (const [i, text] of texts.entries())
      expect(maxDifference(together.subarray(i * width, (i + 1) * width), read([at], [text]).get(at)!)).toBeLessThan(
        1e-6,
      );
    const nodes = (last: HookName) => graphOf(readFileSync(model.reading(new Set([last])).path)).node.length;
    expect(nodes("blocks.0.hook_resid_post")).toBeLessThan(nodes("blocks.2.hook_resid_post") / 2);
    expect(() => read([at], [[1, 2], [3]])).toThrow(RangeError);
  });
});
