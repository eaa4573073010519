import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import type { FeatureRequest, SaeReading } from "../../runtime/contract/features.js";
import { Runner } from "../../runtime/graphs/runner.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";
import { AttachedSaes } from "../../runtime/saes/attached-saes.js";
import { benchFolder } from "./bench-model.js";
import { heldOutTokens } from "./held-out-tokens.js";
import { argument, type Figure, percentile, report } from "./report.js";

/** How far the scalars of readings in 8 bits are from those in f32: a model's own SAEs over a held-out book. */
const WINDOW = 256;
const CHUNK = 128;
const path = argument("model") ?? join("models", "default");
const cacheRoot = benchFolder("cache");
const model = await compileModel({ path, precision: "f32", cacheRoot });
const ids = await heldOutTokens(path, model.shape, Number(argument("tokens") ?? 1536), argument("text"));

const attach = (precision: "f32" | "q8") =>
  AttachedSaes.attach({
    choice: { folders: undefined, precision, anyModel: true },
    model,
    folder: path,
    names: [path],
    cacheRoot,
    threads: 1,
    spin: false,
  });
using exact = await attach("f32");
using coarse = await attach("q8");
using runner = new Runner(model, { window: WINDOW, threads: 1, taps: exact.hooks });

const readings: (readonly [SaeReading, SaeReading])[] = [];
const request: FeatureRequest = {
  saes: exact.cards.map(({ id }) => id),
  top: 0,
  activation: { kind: "native" },
  prompt: true,
};
const cache = runner.openCache({ window: WINDOW, sinks: 10 });
const row = cache.allocate();
for (let at = 0; at < ids.length; at += CHUNK) {
  const residuals: Residuals = new Map();
  runner.prefill(cache, row, ids.slice(at, at + CHUNK), [], { residuals });
  const [want, found] = [exact, coarse].map((saes) => saes.read(request, residuals).flat());
  for (const [i, reading] of (want ?? []).entries()) {
    const other = found?.[i];
    if (other) readings.push([reading, other]);
  }
}
runner.closeCache(cache);

const figures = (["l0", "z", "f", "mse", "epsLbo"] as const).map((name): Figure => {
  const apart = readings
    .map(([want, found]) => Math.abs((found[name] ?? Number.NaN) / (want[name] ?? Number.NaN) - 1) * 100)
    .filter(Number.isFinite);
  const [most, nearly] = [0.9, 0.99].map((share) => `${percentile(apart, share).toPrecision(2)} %`);
  return {
    name: `${name}, median difference`,
    value: percentile(apart, 0.5),
    unit: "%",
    beside: `one in ten is off by ${most}, one in a hundred by ${nearly}; ${apart.length} of ${readings.length} are told`,
  };
});
report(`sae-precision: ${ids.length} tokens, ${exact.cards.length} SAEs, q8 beside f32`, figures);
