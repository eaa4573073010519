import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { compileModel } from "../../../models/compile.js";
import { hook } from "../../../models/hooks.js";
import type { AskedPrecision } from "../../../models/weights/block-format.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import type { LambdaGeometry } from "../../../runtime/cache/lambda-cache.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { maxDifference } from "../../golden-tensors.js";
import { compareLogits } from "../../logit-difference.js";
import { storedIntegers } from "../../stored-integers.js";

/** SmolLM2-135M-Instruct.Q4_1.gguf; its references lie in the folder reference/ beside it. */
const path = process.env.LAMBDATAP_TEST_MODEL ?? "";
if (path === "") console.log("skipped: SmolLM2, because LAMBDATAP_TEST_MODEL is not set");
vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 });

const VOCAB = 49_152;
const FULL: LambdaGeometry = { window: Number.POSITIVE_INFINITY, sinks: 0 };
const CHUNK = 128;
const reference = (name: string): string => join(dirname(path), "reference", name);
const values = (file: string, name: string): Float32Array => {
  using opened = openSafetensors(reference(`${file}.safetensors`));
  return opened.readF32(name);
};
const integers = (file: string, name: string): number[] => storedIntegers(reference(`${file}.safetensors`), name);
const Greedy = z.object({
  cases: z.array(
    z.object({ name: z.string(), prompt_ids: z.array(z.int()), ids: z.array(z.int()), gap: z.array(z.number()) }),
  ),
});

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const open = async (precision: AskedPrecision, taps: Parameters<typeof hook.residPre>[0] | null = null) =>
  new Runner(await compileModel({ path, precision, cacheRoot }), {
    window: 2048,
    threads: 2,
    ...(taps === null ? {} : { taps: allResiduals(taps) }),
  });

const allResiduals = (layers: number) =>
  new Set([...Array.from({ length: layers }, (_, layer) => hook.residPre(layer)), hook.residPost(layers - 1)]);

/** Hands the logits of every token to `each`; the last `decoded` tokens go one by one. */
function run(
  runner: Runner,
  ids: readonly number[],
  geometry: LambdaGeometry,
  each: (logits: Float32Array, token: number) => void,
  decoded = 0,
): void {
  const cache = runner.openCache(geometry);
  const row = cache.allocate();
  for (let start = 0; start < ids.length - decoded; start += CHUNK) {
    const chunk = ids.slice(start, Math.min(start + CHUNK, ids.length - decoded));
    const logits = runner.prefill(cache, row, chunk, [...chunk.keys()]);
    for (const i of chunk.keys()) each(logits.subarray(i * VOCAB, (i + 1) * VOCAB), start + i);
  }
  for (let token = ids.length - decoded; token < ids.length; token++)
    each(runner.decode(cache, row, [ids[token] ?? 0]), token);
  runner.closeCache(cache);
}

function negativeLogLikelihood(logits: Float32Array, next: number): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (const logit of logits) if (logit > largest) largest = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return largest + Math.log(sum) - (logits[next] ?? 0);
}

/** Mean over windows of the passage, each from scratch, and the reference's. */
function passage(runner: Runner, window: 512 | 2048): { found: number; want: number } {
  const ids = integers("perplexity", "ids");
  const want = values("perplexity", `nll.${window}`);
  let sum = 0;
  for (let start = 0; start < 4 * window; start += window)
    run(runner, ids.slice(start, start + window), FULL, (logits, token) => {
      if (token + 1 < window) sum += negativeLogLikelihood(logits, ids[start + token + 1] ?? 0);
    });
  return { found: sum / want.length, want: want.reduce((a, b) => a + b, 0) / want.length };
}

/** The largest gap at which another token than the reference's comes first, over all greedy texts, teacher-forced. */
function overturned(runner: Runner): number {
  let largest = 0;
  for (const { prompt_ids, ids, gap } of Greedy.parse(JSON.parse(readFileSync(reference("greedy.json"), "utf8"))).cases)
    run(
      runner,
      [...prompt_ids, ...ids.slice(0, -1)],
      FULL,
      (logits, token) => {
        const step = token - prompt_ids.length + 1;
        if (step < 0) return;
        let first = 0;
        for (let i = 1; i < VOCAB; i++) if ((logits[i] ?? 0) > (logits[first] ?? 0)) first = i;
        if (first !== ids[step]) largest = Math.max(largest, gap[step] ?? Number.POSITIVE_INFINITY);
      },
      32,
    );
  return largest;
}

function lastLogits(runner: Runner): { largest: number; rms: number } {
  const found = [0, 1, 2].map((k) => {
    let last = new Float32Array(0);
    run(runner, integers("logits", `ids.${k}`), FULL, (logits) => (last = logits.slice()), 4);
    return compareLogits(last, values("logits", `last.${k}`), VOCAB);
  });
  return { largest: Math.max(...found.map((each) => each.largest)), rms: Math.max(...found.map((each) => each.rms)) };
}

describe.skipIf(path === "")("SmolLM2 in f32", () => {
  it("gives the logits of transformers, and the residual stream of every layer", async () => {
    using runner = await open("f32", 30);
    expect(lastLogits(runner).largest).toBeLessThan(2e-3);
    const ids = integers("logits", "ids.0");
    const vocabulary = integers("logits", "vocab_ids");
    const all: number[] = [];
    run(runner, ids, FULL, (logits) => all.push(...vocabulary.map((id) => logits[id] ?? Number.NaN)));
    expect(maxDifference(all, values("logits", "all.0"))).toBeLessThan(2e-3);

    const residuals: Residuals = new Map();
    const cache = runner.openCache(FULL);
    runner.prefill(cache, cache.allocate(), ids, [], { residuals });
    const want = values("logits", "resid_last.0");
    for (const [layer, name] of [...allResiduals(30)].entries()) {
      const expected = want.subarray(layer * 576, (layer + 1) * 576);
      const scale = Math.max(...expected.map(Math.abs));
      const found = residuals.get(name)?.slice(-576) ?? new Float32Array(576).fill(Number.NaN);
      expect(maxDifference(found, expected)).toBeLessThan(1e-4 * scale);
    }
    runner.closeCache(cache);
  });

  it("writes the greedy texts of transformers wherever the first token is ahead by 0.01", async () => {
    using runner = await open("f32");
    expect(overturned(runner)).toBeLessThanOrEqual(0.01);
  });

  it("gives the lambda logits of the definition", async () => {
    using runner = await open("f32");
    const ids = integers("lambda", "ids");
    const [positions, vocabulary] = [integers("lambda", "positions"), integers("lambda", "vocab_ids")];
    const [argmax, gap] = [integers("lambda", "argmax"), values("lambda", "gap")];
    const found: number[] = [];
    let [likelihood, wrong] = [0, 0];
    run(
      runner,
      ids,
      { window: 256, sinks: 10 },
      (logits, token) => {
        if (positions.includes(token)) found.push(...vocabulary.map((id) => logits[id] ?? Number.NaN));
        let first = 0;
        for (let i = 1; i < VOCAB; i++) if ((logits[i] ?? 0) > (logits[first] ?? 0)) first = i;
        if (first !== argmax[token]) wrong = Math.max(wrong, gap[token] ?? Number.POSITIVE_INFINITY);
        if (token + 1 < ids.length) likelihood += negativeLogLikelihood(logits, ids[token + 1] ?? 0);
      },
      100,
    );
    const want = values("lambda", "nll");
    expect(maxDifference(found, values("lambda", "logits"))).toBeLessThan(2e-3);
    expect(wrong).toBeLessThanOrEqual(0.01);
    expect(Math.abs(likelihood / want.length - want.reduce((a, b) => a + b, 0) / want.length)).toBeLessThan(1e-4);
  });

  it("has the perplexity of transformers", async () => {
    using runner = await open("f32");
    for (const window of [512, 2048] as const) {
      const { found, want } = passage(runner, window);
      console.log(`SmolLM2, f32, windows of ${window}: mean NLL ${found.toFixed(5)}, transformers ${want.toFixed(5)}`);
      expect(Math.abs(found - want)).toBeLessThan(1e-4);
    }
  });
});

describe.skipIf(path === "").each(["auto", "q8-block", "q4"] as const)(
  "SmolLM2 in its own blocks, as %s",
  (precision) => {
    it("differs from f32 by the rounding of activations alone", async () => {
      using runner = await open(precision);
      expect(runner.model.precision).toBe(precision === "auto" ? "q4" : precision);
      const { largest, rms } = lastLogits(runner);
      const { found, want } = passage(runner, 512);
      console.log(
        `SmolLM2, ${precision}: logits ${largest.toFixed(2)} at most, rms ${rms.toFixed(2)}; mean NLL ${found.toFixed(5)}, f32 ${want.toFixed(5)}`,
      );
      expect(rms).toBeLessThanOrEqual(0.3);
      expect(largest).toBeLessThanOrEqual(1.5);
      expect(Math.abs(found - want)).toBeLessThan(0.02);
      expect(Math.exp(found - want)).toBeLessThan(1.01);
      expect(overturned(runner)).toBeLessThanOrEqual(0.6);
    });
  },
);
