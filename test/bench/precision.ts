import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import type { Precision } from "../../models/weights/block-format.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { onCpu } from "../bfloat16-on-cpu.js";
import { benchFolder } from "./bench-model.js";
import { heldOutTokens } from "./held-out-tokens.js";
import { argument, type Figure, mean, report } from "./report.js";
import { textNll } from "./text-nll.js";

/** Perplexity of a held-out book with lambda attention, in every precision, beside that of f32. */
const WINDOW = 256;
const SINKS = 10;
const GOAL = 0.005;
const path = argument("model") ?? join("models", "default");
const asked = Number(argument("tokens") ?? 20_000);

/** NLL of the tokens of the text, in one precision; a CPU computes bf16 in f32, and rounds what each node gives. */
async function nllIn(precision: Precision): Promise<Float64Array> {
  const model = await compileModel({ path, precision, cacheRoot: benchFolder("cache") });
  const ids = await heldOutTokens(path, model.shape, asked, argument("text"));
  using runner = new Runner(precision === "bf16" ? onCpu(model) : model, { window: WINDOW, threads: 2 });
  return textNll(runner, ids, WINDOW, { window: WINDOW, sinks: SINKS }).subarray(1);
}

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
