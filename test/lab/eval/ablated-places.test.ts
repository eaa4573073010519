import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { evaluate } from "../../../lab/eval/evaluate.js";
import { CleanPredictions } from "../../../lab/eval/next-token-losses.js";
import { ModelWithSaes } from "../../../lab/model/open-saes.js";
import { hook } from "../../../models/hooks.js";
import { CONTEXTS, GOLDEN_MODEL, saeFolder } from "./golden-evaluation.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The relu SAE, said to stand at another hook. */
function at(name: string): string {
  const to = join(folder, name);
  mkdirSync(to);
  cpSync(saeFolder("relu"), to, { recursive: true });
  const cfg: { metadata: object } = JSON.parse(readFileSync(join(to, "cfg.json"), "utf8"));
  writeFileSync(join(to, "cfg.json"), JSON.stringify({ ...cfg, metadata: { ...cfg.metadata, hook_name: name } }));
  return to;
}

it("what SAEs at the modules' outputs recover together is measured against all of these ablated, not the last alone", async () => {
  const places = [hook.mlpOut(2), hook.mlpOut(4)];
  const how = { precision: "f32", device: { kind: "cpu" }, threads: 1, cacheDir: join(folder, "cache") } as const;
  const folders = places.map((name) => ({ folder: at(name) }));
  using opened = await ModelWithSaes.open(
    { path: GOLDEN_MODEL, name: "default", ...how },
    { folders, anyModel: false },
  );
  const { model, saes } = opened;
  const contexts = CONTEXTS.slice(0, 2).map((ids) => ids.slice(0, 40));
  const { allLayers, clean } = await evaluate(
    model,
    saes,
    async function* () {
      yield* contexts;
    },
    { skipStart: 10, tokens: 1000, together: saes },
  );
  const short = evaluate(
    model,
    saes,
    async function* () {
      yield* contexts.map((ids) => ids.slice(0, 11));
    },
    { skipStart: 10, tokens: 1000 },
  );
  await expect(short).rejects.toThrow(/too short: no context has two tokens behind the first 10/);
  const wanted = Array.from({ length: 30 }, (_, i) => 10 + i);
  const rows = [0, 40].flatMap((first) => wanted.map((token) => first + token));
  const zeros = { rows, values: new Float32Array(rows.length * 192) };
  const predictions = new CleanPredictions(model.run(contexts, { wanted }), 4096, contexts);
  const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const losses = (...hooks: (typeof places)[number][]) =>
    predictions.compare(model.run(contexts, { wanted, patches: new Map(hooks.map((name) => [name, zeros])) }));
  const [both, last] = [mean(losses(...places).ce), mean(losses(hook.mlpOut(4)).ce)];
  expect(Math.abs(both - last)).toBeGreaterThan(1e-3);
  expect(mean(predictions.ce)).toBeCloseTo(clean.ce, 5);
  const spliced = allLayers?.spliced;
  expect(spliced?.recovered.zero.ce).toBeCloseTo((both - (spliced?.ce ?? 0)) / (both - clean.ce), 4);
});
