import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { hook } from "../../../models/hooks.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { maxDifference } from "../../golden-tensors.js";
import { opened } from "../tokenizer/opened.js";
import { expectedOf, goldenGguf, hostileCases } from "./golden-gguf.js";

/** What the golden files' README asks of a graph that computes in f32. */
const TOLERANCE = 3e-4;

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const compile = (file: string) => compileModel({ path: goldenGguf(file), precision: "f32", cacheRoot });

/** Largest difference of the logits of all tokens, prefilled at once and decoded one by one. */
async function differences(file: string, ids: readonly number[], want: Float32Array): Promise<number[]> {
  using runner = new Runner(await compile(file), { window: 64, threads: 1 });
  const cache = runner.openCache({ window: 64, sinks: 2 });
  const prefilled = runner.prefill(cache, cache.allocate(), ids, [...ids.keys()]);
  const row = cache.allocate();
  const decoded = ids.flatMap((id) => [...runner.decode(cache, row, [id])]);
  runner.closeCache(cache);
  return [maxDifference(prefilled, want), maxDifference(decoded, want)];
}

describe("logits of a GGUF model are transformers'", () => {
  it.each([
    ["llama-tiny.gguf", "llama-tiny"],
    ["llama-tiny-q4_1.gguf", "llama-tiny-q4_1"],
    ["llama-tiny-f16.gguf", "llama-tiny-f16"],
    ["llama-tiny-llama3.gguf", "llama-tiny-llama3"],
    ["llama-tiny-00001-of-00002.gguf", "llama-tiny"],
  ])("%s", async (file, expected) => {
    using want = expectedOf(expected);
    for (const found of await differences(file, want.ids(), want.values("logits")))
      expect(found).toBeLessThan(TOLERANCE);
  });

  it("so are the hidden states between its layers", async () => {
    using want = expectedOf("llama-tiny");
    const ids = want.ids();
    const [, tokens = 0, hidden = 0] = want.shape("hidden_states");
    const states = want.values("hidden_states");
    const model = await compile("llama-tiny.gguf");
    using runner = new Runner(model, { window: 64, threads: 1, taps: new Set(model.hooks) });
    const cache = runner.openCache({ window: 64, sinks: 2 });
    const residuals: Residuals = new Map();
    runner.prefill(cache, cache.allocate(), ids, [], { residuals });
    for (let layer = 0; layer < model.shape.layers; layer++)
      for (const [name, at] of [
        [hook.residPre(layer), layer],
        [hook.residPost(layer), layer + 1],
      ] as const) {
        const state = states.subarray(at * tokens * hidden, (at + 1) * tokens * hidden);
        expect(maxDifference(residuals.get(name) ?? [], state), name).toBeLessThan(TOLERANCE);
      }
    runner.closeCache(cache);
  });
});

describe("files that differ from a sound one in what does not matter give its logits", () => {
  const { text, cases } = hostileCases();
  const sound = cases.filter(({ must, logits }) => must === "load" && logits).map(({ file }) => file);
  it.each([...sound, "ok-int-types.gguf", "ok-tensor-order.gguf", "ok-gaps.gguf", "ok-nested-array.gguf"])(
    "%s",
    async (file) => {
      using want = expectedOf("hostile/ok");
      expect([...(await (await opened(goldenGguf(`hostile/${file}`), 48)).encode(text.prompt))]).toEqual(text.ids);
      for (const found of await differences(`hostile/${file}`, text.ids, want.values("logits")))
        expect(found).toBeLessThan(TOLERANCE);
    },
  );

  it("a bias of one projection is applied", async () => {
    using want = expectedOf("hostile/tensor-bias");
    for (const found of await differences("hostile/tensor-bias.gguf", text.ids, want.values("logits")))
      expect(found).toBeLessThan(TOLERANCE);
  });
});
