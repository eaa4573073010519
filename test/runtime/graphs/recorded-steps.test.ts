import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import type { Device } from "../../../runtime/ort/device.js";
import { goldenFolder, maxDifference } from "../../golden-tensors.js";
import { FAR_CPU } from "../ort/far-cpu.js";
import { alone, IDS, TEXTS, together } from "./text-schedule.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const cacheRoot = join(folder, "cache");
afterAll(() => rmSync(folder, { recursive: true }));

describe("where steps are recorded", () => {
  const recordings = new Set<number>();
  const device: Device = {
    ...FAR_CPU,
    runOptions: (recording) => {
      if (recording !== null) recordings.add(recording);
      return null;
    },
  };

  it("a few recordings serve all compositions of a batch, and texts are as they are alone", async () => {
    const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f32", cacheRoot });
    using runner = new Runner(model, { window: 300, threads: 1, device, replays: true });
    const texts = [...TEXTS, ...TEXTS].map((text) => ({ ...text, window: Math.min(text.window, 200) }));
    const want = texts.map((text) => alone(runner, 4, text));
    recordings.clear();
    // Weights are not packed there, and ONNX Runtime multiplies one row by them in another way than several.
    for (const [i, runs] of together(runner, 4, texts, 11).entries())
      for (const [at, logits] of runs.entries()) expect(maxDifference(logits, want[i]?.[at] ?? [])).toBeLessThan(2e-4);
    // Blocks of 1, 2, 4, 8 and 16 rows of one cache.
    expect(recordings.size).toBeLessThanOrEqual(31);
    recordings.clear();
    const cache = runner.openCache({ window: 64, sinks: 4 });
    for (let row = 0; row < 13; row++) cache.allocate();
    for (let rows = 1; rows <= 13; rows++) runner.decode(cache, 0, IDS.slice(0, rows));
    expect(recordings.size).toBe(5);
    runner.closeCache(cache);
  });

  it("taps are those of the rows that were asked for", async () => {
    const model = await compileModel({ path: goldenFolder("lm-infinite"), precision: "f32", cacheRoot });
    const taps = new Set(model.hooks);
    using plain = new Runner(model, { window: 64, threads: 1, taps });
    using recorded = new Runner(model, { window: 64, threads: 1, taps, device, replays: true });
    const read = (runner: Runner) => {
      const cache = runner.openCache({ window: 64, sinks: 4 });
      for (let row = 0; row < 5; row++) cache.allocate();
      const residuals: Residuals = new Map();
      const logits = runner.decode(cache, 3, [7, 9], { residuals }).slice();
      runner.closeCache(cache);
      return { logits, residuals };
    };
    expect(read(recorded)).toEqual(read(plain));
  });
});
