import { readFileSync } from "node:fs";
import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import { openTokenizer } from "../../models/tokenizer/tokenizer.js";
import type { Precision } from "../../models/weights/block-format.js";
import { Runner } from "../../runtime/runner.js";
import { onCpu } from "../bfloat16-on-cpu.js";
import { benchFolder } from "./bench-model.js";
import { argument, type Figure, report } from "./report.js";
import { textNll } from "./text-nll.js";

/** Perplexity of a held-out book with lambda attention, in every precision, beside that of f32. */
const WINDOW = 256;
const SINKS = 10;
const GOAL = 0.005;
const text = readFileSync(argument("text") ?? join("test", "data", "the-wind-in-the-willows.txt"), "utf8");
const path = argument("model") ?? join("models", "default");
const asked = Number(argument("tokens") ?? 20_000);

/** NLL of the tokens of the text, in one precision; a CPU computes bf16 in f32, and rounds what each node gives. */
async function nllIn(precision: Precision): Promise<Float64Array> {
  const model = await compileModel({ path, precision, cacheRoot: benchFolder("cache") });
  const { vocabSize, bosTokenId } = model.shape;
  const tokenizer = openTokenizer(path, vocabSize);
  if (tokenizer === null) throw new Error(`${path} has no tokenizer`);
  const ids = [...(bosTokenId === null ? [] : [bosTokenId]), ...tokenizer.encode(text)].slice(0, asked);
  using runner = new Runner(precision === "bf16" ? onCpu(model) : model, { window: WINDOW, threads: 2 });
  return textNll(runner, ids, WINDOW, { window: WINDOW, sinks: SINKS }).subarray(1);
}

const mean = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;

const exact = await nllIn("f32");
const perplexity = Math.exp(mean(exact));
const figures: Figure[] = [{ name: "perplexity in f32", value: perplexity, unit: "" }];
for (const precision of ["f16", "bf16"] as const) {
  const found = await nllIn(precision);
  const ratio = Math.exp(mean(found) - mean(exact));
  const apart = mean(found.map((value, i) => Math.abs(value - (exact[i] ?? Number.NaN))));
  figures.push({
    name: `perplexity in ${precision}${precision === "bf16" ? " (rounded on the CPU)" : ""}`,
    value: perplexity * ratio,
    unit: "",
    beside: `${((ratio - 1) * 100).toFixed(4)} % from f32, goal within ${GOAL * 100} %; a token's NLL is ${apart.toFixed(5)} nat apart`,
    met: Math.abs(ratio - 1) <= GOAL,
  });
}
report(`precision: ${exact.length} tokens, window ${WINDOW}, ${SINKS} sinks`, figures);
