import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { type HookName, hookWidth, isResidualHook } from "../../../models/hooks.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { goldenFolder, goldenSequences, maxDifference } from "../../golden-tensors.js";
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
function served(runner: Runner, ids: readonly number[], chunk: number): Map<HookName, number[]> {
  const all = new Map<HookName, number[]>();
  const cache = runner.openCache({ window: WINDOW, sinks: 2 });
  const row = cache.allocate();
  for (let start = 0; start < ids.length; start += chunk) {
    const residuals: Residuals = new Map();
    const tokens = ids.slice(start, start + chunk);
    if (chunk === 1) runner.decode(cache, row, tokens, { residuals });
    else runner.prefill(cache, row, tokens, [], { residuals });
    for (const [hook, values] of residuals) all.set(hook, [...(all.get(hook) ?? []), ...values]);
  }
  runner.closeCache(cache);
  return all;
}

const families = readdirSync(goldenFolder("heads")).map((file) => file.replace(".safetensors", ""));

describe.each(families)("%s: queries, keys, values and what attention makes of them", (name) => {
  it("are those of transformers, in whole texts, chunks and single tokens", async () => {
    const model = await compiled(`architectures/${name}`);
    const golden = goldenHooks(name);
    using runner = new Runner(model, { window: WINDOW, threads: 1, taps: new Set(model.hooks) });
    const [ids = []] = goldenSequences(`architectures/${name}`);
    const whole = runner.activations([ids]);
    const ways = [whole, served(runner, ids, 9), served(runner, ids, 1)];
    const known = model.hooks.filter((hook) => golden.has(hook));
    expect(known.filter((hook) => !isResidualHook(hook))).toHaveLength(8);
    for (const hook of known)
      for (const values of ways)
        expect(maxDifference(values.get(hook) ?? [], golden.get(hook)!), hook).toBeLessThan(TOLERANCE);
    for (const hook of model.hooks) {
      expect(whole.get(hook)?.length, hook).toBe(ids.length * hookWidth(hook, model.shape));
      expect(maxDifference(whole.get(hook)!, ways[1]!.get(hook)!), hook).toBeLessThan(TOLERANCE);
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
    const hook = "blocks.1.attn.hook_z";
    const together = read([hook], texts).get(hook)!;
    const width = together.length / 3;
    for (const [i, text] of texts.entries())
      expect(
        maxDifference(together.subarray(i * width, (i + 1) * width), read([hook], [text]).get(hook)!),
      ).toBeLessThan(1e-6);
    const nodes = (at: HookName) => graphOf(readFileSync(model.reading(new Set([at])).path)).node.length;
    expect(nodes("blocks.0.hook_resid_post")).toBeLessThan(nodes("blocks.2.hook_resid_post") / 2);
    expect(() => read([hook], [[1, 2], [3]])).toThrow(RangeError);
  });
});
