import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { kvScales } from "../../../models/keys-values/kv-format.js";
import { kvRangesOf } from "../../../runtime/calibration/kv-ranges-of.js";
import { ObservedRanges } from "../../../runtime/calibration/observed-ranges.js";
import { SetupError } from "../../../runtime/contract/errors.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { goldenArchitectures, goldenFolder, goldenSequences } from "../../golden-tensors.js";
import { overflowing } from "../../models/overflowing-model.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const openRunner = async (path: string) =>
  new Runner(await compileModel({ path, precision: "f32", cacheRoot }), { window: 16, threads: 1 });

describe.each(goldenArchitectures())("ranges of $name", ({ name }) => {
  it("hold what a text gives, wherever in a longer one it stands", async () => {
    using runner = await openRunner(goldenFolder(`architectures/${name}`));
    const { layers, kvHeads, headDim } = runner.model.shape;
    // Few tokens: where they stand, most dimensions of a key are far from the largest that they can be elsewhere.
    const ids = (goldenSequences(`architectures/${name}`)[0] ?? []).slice(0, 2);
    const { keys, values } = kvRangesOf(runner, [ids]);
    expect([keys.length, values.length]).toEqual([layers, layers]);
    const beyond: string[] = [];
    const check = (what: string, of: Float32Array, ranges: Float32Array) => {
      for (const [i, value] of of.entries()) {
        const channel = Math.floor(i / (ids.length * headDim)) * headDim + (i % headDim);
        if (!(Math.abs(value) <= (ranges[channel] ?? 0))) beyond.push(`${what}, channel ${channel}: ${value}`);
      }
    };
    const cache = runner.openCache({ window: 16, sinks: 0 });
    for (const origin of [0, 1, 2, 3, 5, 8, 21, 55, 144, 610, 987, 6765, 46368]) {
      const row = cache.allocate();
      runner.prefill(cache, row, ids, [], {
        origin,
        keysAndValues: (layer, ofKeys, ofValues) => {
          expect(ofKeys.shape).toEqual([1, kvHeads, ids.length, headDim]);
          check(`a key of layer ${layer} at ${origin}`, ofKeys.read(new Float32Array(ofKeys.size)), keys[layer]!);
          check(`a value of layer ${layer}`, ofValues.read(new Float32Array(ofValues.size)), values[layer]!);
        },
      });
      cache.release(row);
    }
    runner.closeCache(cache);
    expect(beyond).toEqual([]);
  });
});

describe("ranges of keys and values", () => {
  const shape = {
    ...{ vocabSize: 8, hiddenSize: 4, layers: 1, heads: 1, kvHeads: 1, headDim: 4, trainedLength: 8 },
    ...{ bosTokenId: null, eosTokenIds: [], learnedPositions: null, postNorm: false, ignoresMean: "never" as const },
    layerGeometries: [0],
  };
  const rope = { type: "default", theta: 10_000 } as const;
  const rotary = (rest: { readonly interleaved?: true }) => ({
    ...shape,
    geometries: [{ window: "lambda" as const, positions: { kind: "rotary" as const, rope, rotaryDim: 2, ...rest } }],
  });

  it("are the pair's norm where keys are rotated, and the largest magnitude elsewhere", () => {
    for (const each of [rotary({}), rotary({ interleaved: true })]) {
      const observed = new ObservedRanges(each);
      observed.see(0, Float32Array.of(3, -4, -1, 2, 0, 0, 0.5, -6), Float32Array.of(3, -4, -1, 2, 0, 0, 0.5, -6));
      const { keys, values } = observed.ranges();
      const ratios = (of: Float32Array | undefined) => Array.from(of ?? [], (range) => range / (of?.[3] ?? 0));
      for (const [found, wanted] of [
        [ratios(keys[0]), [5 / 6, 5 / 6, 1 / 6, 1]],
        [ratios(values[0]), [3 / 6, 4 / 6, 1 / 6, 1]],
      ] as const)
        for (const [i, ratio] of found.entries()) expect(ratio).toBeCloseTo(wanted[i] ?? 0, 6);
      expect(values[0]?.[3]).toBeGreaterThan(6);
    }
  });

  it("can be divided by, of channels that the texts leave at 0 and of a layer that is all zeros or nearly so", () => {
    for (const key of [0, 1e-40, 1e-30]) {
      const observed = new ObservedRanges(rotary({}));
      observed.see(0, new Float32Array(4).fill(key), Float32Array.of(0, 0, 0, 8));
      const ranges = observed.ranges();
      for (const scale of [
        ...kvScales({ bits: 8, ranges }, "keys", 0),
        ...kvScales({ bits: 8, ranges }, "values", 0),
      ]) {
        expect(scale).toBeGreaterThan(0);
        expect(Math.fround(1 / scale)).toBeLessThan(Number.POSITIVE_INFINITY);
      }
      expect(ranges.values[0]?.[0]).toBeLessThan(0.01);
    }
  });

  it("are refused where a layer's keys or values are not finite", async () => {
    using runner = await openRunner(overflowing(cacheRoot, "architectures/gemma2", "model.embed_tokens.weight"));
    expect(() => kvRangesOf(runner, [[1, 0, 2]])).toThrow(SetupError);
    expect(() => kvRangesOf(runner, [[1, 0, 2]])).toThrow(/layer 0 are not finite.*--kv f32/);
  });
});
