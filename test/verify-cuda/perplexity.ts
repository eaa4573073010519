import { availableParallelism } from "node:os";
import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { CPU, type Device } from "../../runtime/ort/device.js";
import { heldOutTokens } from "../bench/held-out-tokens.js";
import { mean } from "../bench/report.js";
import { textNll } from "../bench/text-nll.js";
import { GPU_PRECISIONS, type GpuPrecision } from "./ceilings.js";
import { runParts } from "./parts.js";
import type { Section } from "./section.js";

const MODEL = join("models", "default");
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
  async run(bench, findings) {
    const { device, cacheRoot, tiny } = bench;
    const add = findings.table("Perplexity", ["where", "type", "NLL, nat", "perplexity", "against f32 on the CPU, %"]);
    const f32 = await compileModel({ path: MODEL, precision: "f32", device: "cuda", cacheRoot });
    const ids = await heldOutTokens(MODEL, f32.shape, (tiny ? 600 : TOKENS) + 1);
    const nllOf = async (precision: GpuPrecision, on: Device, threads: number): Promise<number> => {
      using runner = new Runner(await compileModel({ path: MODEL, precision, device: "cuda", cacheRoot }), {
        window: GEOMETRY.window,
        threads,
        device: on,
      });
      return mean(textNll(runner, ids, GEOMETRY.window, GEOMETRY).subarray(1));
    };
    const reference = await nllOf("f32", CPU, availableParallelism());
    add(["CPU", "f32", reference, Math.exp(reference), 0]);
    const parts = GPU_PRECISIONS.map((precision) => ({
      name: precision,
      run: async () => {
        const nll = await nllOf(precision, device, 1);
        const difference = Math.exp(nll - reference) - 1;
        const limit = precision === "f32" ? SAME : GOAL;
        const goal = { goal: `within ${100 * limit} %`, met: Math.abs(difference) <= limit };
        add(["GPU", precision, nll, Math.exp(nll), 100 * difference], goal);
      },
    }));
    await runParts(bench, findings, parts);
  },
};
