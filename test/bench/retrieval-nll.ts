import { join } from "node:path";
import { sampleStandardDeviation } from "simple-statistics";
import { z } from "zod";
import { compileModel } from "../../models/compile.js";
import { PRECISIONS } from "../../models/weights/block-format.js";
import { Archive } from "../../runtime/cache/archive.js";
import { type Retrieval, toRetrieval } from "../../runtime/cache/retrieval.js";
import { negativeLogProbability } from "../../runtime/calibration/text-nll.js";
import type { RetrieveOptions } from "../../runtime/contract/generation.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { benchFolder } from "./bench-model.js";
import { heldOutTokens } from "./held-out-tokens.js";
import { argument, type Figure, mean, report } from "./report.js";
import { textNll } from "./text-nll.js";

/**
 * What middle retrieval does to ordinary text: NLL of a book's tokens, each decoded with the book's own token before it, that
 * retrieve from all that has left the window, beside the same tokens without retrieval. With the defaults and in the paper's
 * form, or with --k, --distance and --from-layer.
 */
const SINKS = 10;
const path = argument("model") ?? join("models", "default");
const window = Number(argument("window") ?? 256);
const measured = Number(argument("tokens") ?? 20_000);
const before = Number(argument("before") ?? 8 * window);
const geometry = { window, sinks: SINKS };

const model = await compileModel({
  path,
  precision: z.enum(PRECISIONS).parse(argument("precision") ?? "f32"),
  cacheRoot: benchFolder("cache"),
});
const ids = await heldOutTokens(path, model.shape, before + measured, argument("text"));
using runner = new Runner(model, { window, threads: 1 });

const lambda = textNll(runner, ids, window, geometry).subarray(before);
const figures: Figure[] = [{ name: "without retrieval", value: mean(lambda), unit: "nat" }];
const number = (name: string): number | undefined => {
  const given = argument(name);
  return given === undefined ? undefined : Number(given);
};
const own = { k: number("k"), distance: number("distance"), fromLayer: number("from-layer") };
const forms: readonly (readonly [name: string, form: RetrieveOptions])[] = Object.values(own).some(Number.isFinite)
  ? [["as asked", own]]
  : [
      ["the defaults", {}],
      ["the paper's form", { k: 5, distance: Math.floor(window / 2) }],
    ];
for (const [name, form] of forms) {
  const retrieval = toRetrieval(form, window, model.shape);
  const nll = await retrievingNll(retrieval);
  const differences = nll.map((value, i) => value - (lambda[i] ?? Number.NaN));
  const error = sampleStandardDeviation([...differences]) / Math.sqrt(differences.length);
  figures.push({
    name: `${name}: k ${retrieval.k} at ${retrieval.distance} from layer ${retrieval.fromLayer}`,
    value: mean(nll),
    unit: "nat",
    beside: `${mean(differences).toFixed(4)} ± ${error.toFixed(4)} beside without`,
  });
}
report(
  `retrieval on ordinary text: ${ids.length - before} tokens behind ${before}, window ${window}, ${model.precision}`,
  figures,
);

async function retrievingNll(retrieval: Retrieval): Promise<Float64Array> {
  const cache = runner.openCache(geometry);
  const row = cache.allocate();
  const archive = new Archive(model.shape, { ...geometry, retrieval, tokens: ids.length });
  for (let start = 0; start < before - 1; start += window)
    runner.prefill(cache, row, ids.slice(start, Math.min(start + window, before - 1)), [], { archive });
  const nll = new Float64Array(ids.length - before);
  for (const i of nll.keys()) {
    const logits = runner.decode(cache, row, [ids[before + i - 1] ?? 0], { archive });
    nll[i] = negativeLogProbability(logits, ids[before + i] ?? 0);
    // Native memory that JavaScript has seen is only let go between turns of the event loop.
    if (i % 100 === 0) await new Promise(setImmediate);
  }
  runner.closeArchive(archive);
  runner.closeCache(cache);
  return nll;
}
