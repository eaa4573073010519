import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import { openTokenizer } from "../../models/tokenizer/tokenizer.js";
import { CPU, type Device } from "../../runtime/ort/device.js";
import { Runner } from "../../runtime/runner.js";
import { GPU_PRECISIONS, type GpuPrecision } from "./ceilings.js";
import { meanNll } from "./nll.js";
import type { Section } from "./section.js";

const MODEL = join("models", "default");
const TEXT = join("test", "data", "the-wind-in-the-willows.txt");
const GEOMETRY = { window: 256, sinks: 10 };
const TOKENS = 20_480;
/** Relative difference of perplexities. */
const GOAL = 0.005;
/** The same arithmetic in another order. */
const SAME = 1e-4;

/** A held-out text of the embedded model, in every type beside the CPU's f32. */
export const perplexity: Section = {
  name: "perplexity",
  about: `The embedded model on the first ${TOKENS.toLocaleString("en")} tokens of The Wind in the Willows, which it was not trained on; lambda, W = 256, 10 starting tokens.`,
  async run({ device, cacheRoot, tiny }, findings) {
    const add = findings.table("Perplexity", ["where", "type", "NLL, nat", "perplexity", "against f32 on the CPU, %"]);
    const f32 = await compileModel({ path: MODEL, precision: "f32", cacheRoot });
    const ids = tokens(f32.shape.vocabSize, f32.shape.bosTokenId, tiny ? 600 : TOKENS);
    const nllOf = async (precision: GpuPrecision, on: Device, threads: number): Promise<number> => {
      using runner = new Runner(await compileModel({ path: MODEL, precision, cacheRoot }), {
        window: GEOMETRY.window,
        threads,
        device: on,
      });
      return meanNll(runner, ids, GEOMETRY);
    };
    const reference = await nllOf("f32", CPU, availableParallelism());
    add(["CPU", "f32", reference, Math.exp(reference), 0]);
    for (const precision of GPU_PRECISIONS) {
      const nll = await nllOf(precision, device, 1);
      const difference = Math.exp(nll - reference) - 1;
      const limit = precision === "f32" ? SAME : GOAL;
      add(["GPU", precision, nll, Math.exp(nll), 100 * difference], {
        goal: `within ${100 * limit} %`,
        met: Math.abs(difference) <= limit,
      });
    }
  },
};

function tokens(vocabSize: number, bos: number | null, count: number): number[] {
  const tokenizer = openTokenizer(MODEL, vocabSize);
  if (tokenizer === null) throw new Error(`${MODEL} has no tokenizer`);
  return [...(bos === null ? [] : [bos]), ...tokenizer.encode(readFileSync(TEXT, "utf8"))].slice(0, count + 1);
}
