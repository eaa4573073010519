import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LabModel } from "../../../lab/model/lab-model.js";
import { hook } from "../../../models/hooks.js";
import { packageRoot } from "../../../models/package-root.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { maxDifference } from "../../golden-tensors.js";

const cacheDir = mkdtempSync(join(tmpdir(), "lambdatap-"));
const HOOK = hook.residPost(3);
let model: LabModel;
beforeAll(async () => {
  const how = { precision: "f32", device: { kind: "cpu" }, threads: 2, cacheDir } as const;
  model = await LabModel.open({ path: join(packageRoot(), "models", "default"), name: "default", ...how }, [HOOK]);
});
afterAll(() => {
  model[Symbol.dispose]();
  rmSync(cacheDir, { recursive: true });
});

describe("contexts whose residuals are set", () => {
  const contexts = [0, 1, 2].map((context) => Array.from({ length: 20 }, (_, i) => (i === 0 ? 0 : 37 * i + context)));
  const wanted = [...Array(20).keys()];

  it("give the logits of the context that the residuals come from, each its own", () => {
    const residuals: Residuals = new Map();
    const clean = model.run(contexts, { residuals, wanted });
    const values = residuals.get(HOOK) ?? new Float32Array();
    const width = values.length / 60;
    // The first context's rows are left alone, and the others change places.
    const rows = [...Array(20).keys()].flatMap((token) => [40 + token, 20 + token]);
    const moved = new Float32Array(rows.length * width);
    for (const [i, row] of rows.entries()) {
      const from = row < 40 ? row + 20 : row - 20;
      moved.set(values.subarray(from * width, (from + 1) * width), i * width);
    }
    const swapped = model.run(contexts, { wanted, patches: new Map([[HOOK, { rows, values: moved }]]) });
    for (const [to, from] of [0, 2, 1].entries()) expect(maxDifference(swapped[to]!, clean[from]!)).toBeLessThan(1e-4);
    expect(maxDifference(swapped[1]!, clean[1]!)).toBeGreaterThan(0.1);
  });

  it("are refused where a row is no row of the run, and where contexts differ in length", () => {
    const set = (row: number) => new Map([[HOOK, { rows: [row], values: new Float32Array(192) }]]);
    expect(() => model.run(contexts, { patches: set(60) })).toThrow(`patches at ${HOOK}: there is no row 60 among 60`);
    expect(() => model.run([[1, 2], [1]], {})).toThrow(/equally long/);
  });
});
