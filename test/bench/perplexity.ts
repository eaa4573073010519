import { join } from "node:path";
import { z } from "zod";
import { compileModel } from "../../models/compile.js";
import { PRECISIONS } from "../../models/weights/block-format.js";
import { negativeLogProbability } from "../../runtime/calibration/text-nll.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { benchFolder } from "./bench-model.js";
import { heldOutTokens } from "./held-out-tokens.js";
import { argument, type Figure, mean, report } from "./report.js";
import { textNll } from "./text-nll.js";

/**
 * A held-out book as one sequence: mean NLL by position, beside the same tokens predicted from only the last W tokens,
 * encoded from scratch (a sample of each bucket), and beside full attention.
 */
const WINDOW = 256;
const SINKS = 10;
const GOAL = 0.02;
const SAMPLE = Number(argument("sample") ?? 2000);
const FULL_LIMIT = 8192;
const folder = argument("model") ?? join("models", "default");

const model = await compileModel({
  path: folder,
  precision: z.enum(PRECISIONS).parse(argument("precision") ?? "f32"),
  cacheRoot: benchFolder("cache"),
});
const asked = Number(argument("tokens") ?? Number.POSITIVE_INFINITY);
const ids = await heldOutTokens(folder, model.shape, asked, argument("text"));
using runner = new Runner(model, { window: WINDOW, threads: 2 });

const lambda = textNll(runner, ids, WINDOW, { window: WINDOW, sinks: SINKS });
const full = textNll(runner, ids.slice(0, FULL_LIMIT), WINDOW, { window: Number.POSITIVE_INFINITY, sinks: 0 });
const figures: Figure[] = [];
for (let [start, end] = [WINDOW, WINDOW * 4]; start < ids.length; [start, end] = [end, end * 4]) {
  const stop = Math.min(end, ids.length);
  const step = Math.max(1, (stop - start) / SAMPLE);
  const sample = Array.from({ length: Math.floor((stop - start) / step) }, (_, i) => Math.floor(start + i * step));
  const fromScratch: number[] = [];
  for (const position of sample) {
    fromScratch.push(nllFromScratch(position));
    // Native memory that JavaScript has seen is only let go between turns of the event loop.
    await new Promise(setImmediate);
  }
  const again = mean(fromScratch);
  const difference = mean(sample.map((position) => lambda[position] ?? 0)) - again;
  const inFull = full.subarray(start, Math.min(stop, full.length));
  const beside = `last W from scratch ${again.toFixed(4)}, full attention ${inFull.length > 0 ? mean(inFull).toFixed(4) : "not run"}`;
  figures.push(
    { name: `NLL of tokens ${start}..${stop - 1}`, value: mean(lambda.subarray(start, stop)), unit: "nat", beside },
    {
      name: "  minus last W from scratch",
      value: difference,
      unit: "nat",
      beside: `goal <= ${GOAL} (${sample.length} tokens)`,
      met: difference <= GOAL,
    },
  );
}
figures.unshift({
  name: `NLL of tokens 1..${WINDOW - 1}`,
  value: mean(lambda.subarray(1, WINDOW)),
  unit: "nat",
  beside: "same as full attention",
});
report(`perplexity: ${ids.length} tokens, window ${WINDOW}, ${SINKS} sinks, ${model.precision}`, figures);

/** NLL of the token at a position, given the W tokens before it as if they were the whole text. */
function nllFromScratch(position: number): number {
  const cache = runner.openCache({ window: WINDOW, sinks: 0 });
  const context = ids.slice(position - WINDOW, position);
  const logits = runner.prefill(cache, cache.allocate(), context, [context.length - 1]);
  runner.closeCache(cache);
  return negativeLogProbability(logits, ids[position] ?? 0);
}
