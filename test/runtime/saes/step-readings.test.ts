import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { hook } from "../../../models/hooks.js";
import type { FeatureRequest, SaeReading } from "../../../runtime/contract/features.js";
import { CPU } from "../../../runtime/ort/device.js";
import { Tensor } from "../../../runtime/ort/tensor.js";
import { AttachedSaes, type TappedRows } from "../../../runtime/saes/attached-saes.js";
import { maxDifference } from "../../golden-tensors.js";
import { FAR_CPU } from "../ort/far-cpu.js";
import { noise } from "./reader-contract.js";

const MODEL = join("models", "default");
const D = 192;
const ROWS = 16;
const hooks = [1, 3, 5].map(hook.residPost);
const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

/** What sequences that run together ask for: some, others, in another order, nothing. */
const asked = Array.from({ length: ROWS }, (_, row): FeatureRequest | null => {
  if (row % 5 === 3) return null;
  const saes = [hooks, hooks.slice(0, 1), hooks.toReversed(), hooks.slice(1), []][row % 4 === 0 ? 0 : row % 5] ?? [];
  const activation = ([{ kind: "native" }, { kind: "top-k", k: 9 }, { kind: "top-k", k: 30 }] as const)[row % 3];
  return {
    saes,
    activation: activation ?? { kind: "native" },
    top: [3, 40, 0, 8][row % 4] ?? 0,
    prompt: row % 2 === 0,
  };
});

describe.each([
  ["the host", CPU],
  ["a device", FAR_CPU],
])("a step's rows, read on %s", (_, device) => {
  const values = new Map(hooks.map((name, i) => [name, noise(ROWS, D).map((value) => value + i / 3)]));
  let saes: AttachedSaes;
  beforeAll(async () => {
    const model = await compileModel({ path: MODEL, precision: "f32", cacheRoot });
    const choice = { folders: undefined, precision: "f32", anyModel: false } as const;
    const options = { choice, model, folder: MODEL, names: ["default"], cacheRoot, threads: 2, spin: false };
    saes = await AttachedSaes.attach({ ...options, device });
  });
  afterAll(() => saes[Symbol.dispose]());

  function expectNear(got: SaeReading | undefined, want: SaeReading | undefined): void {
    if (got === undefined || want === undefined) throw new Error("there is no reading");
    expect([got.sae, got.l0, ...got.indices]).toEqual([want.sae, want.l0, ...want.indices]);
    const scale = Math.max(want.f, 1e-3);
    expect(maxDifference(got.values, want.values)).toBeLessThanOrEqual(1e-5 * scale);
    for (const scalar of ["z", "f", "mse"] as const)
      expect(Math.abs(got[scalar] - want[scalar])).toBeLessThanOrEqual(1e-5 * Math.max(want[scalar], scale));
  }

  it("are what each row alone reads, by its own SAEs in its own order", () => {
    const together = saes.readStep(asked, values);
    expect(together).toHaveLength(ROWS);
    for (const [row, request] of asked.entries()) {
      expect(together[row]?.map(({ sae }) => sae)).toEqual(request?.saes ?? []);
      if (request === null) continue;
      const own = new Map([...values].map(([name, all]) => [name, all.subarray(row * D, (row + 1) * D)]));
      const [alone = []] = saes.read(request, own);
      for (const [i, want] of alone.entries()) expectNear(together[row]?.[i], want);
    }
  });

  it("may lie in tensors, as many or more than are asked for", () => {
    const tensors = new Map(
      [...values].map(([name, all]) => {
        const tensor = Tensor.zeros("float32", [ROWS, 1, D]);
        tensor.write(all);
        return [name, tensor] as const;
      }),
    );
    const few = asked.slice(0, 6);
    expect(saes.readStep(few, tensors)).toEqual(saes.readStep(few, values));
    for (const tensor of tensors.values()) tensor[Symbol.dispose]();
  });

  it("are none where nobody asks", () => {
    expect(saes.readStep([null, null], new Map())).toEqual([[], []]);
  });

  it("are refused where a hook was not tapped, or there are fewer rows", () => {
    const request: FeatureRequest = { saes: hooks, activation: { kind: "native" }, top: 1, prompt: false };
    const short: TappedRows = new Map(hooks.map((name) => [name, new Float32Array(D)]));
    expect(() => saes.readStep([request], new Map())).toThrow(/was not tapped/);
    expect(() => saes.readStep([null, request], short)).toThrow(/there is no row 1/);
  });
});
