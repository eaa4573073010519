import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { openSae } from "../../../models/sae/formats/index.js";
import type { SaeDescription } from "../../../models/sae/sae.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { maxDifference } from "../../golden-tensors.js";
import { openEmbedded } from "../tokenizer/opened.js";
import { readFeatures } from "./reference/features.js";
import { openSmallLlama, type Run } from "./small-llama.js";

const MODEL = join("models", "default");
const BOS = 0;
const WIDTH = 192;
/** Tokens at the start of a text that training and judging leave out. */
const STARTING = 10;
/** What the model's card says of its SAEs on other books. */
const CARD = [
  { layer: 1, suffix: "", activation: "top-afa", l0: 39.7, unexplained: 0.108 },
  { layer: 1, suffix: ".sparse", activation: "jumprelu", l0: 33.6, unexplained: 0.046 },
  { layer: 3, suffix: "", activation: "top-afa", l0: 59.5, unexplained: 0.169 },
  { layer: 3, suffix: ".sparse", activation: "jumprelu", l0: 34.8, unexplained: 0.11 },
  { layer: 5, suffix: "", activation: "top-afa", l0: 57.2, unexplained: 0.123 },
  { layer: 5, suffix: ".sparse", activation: "jumprelu", l0: 34.1, unexplained: 0.082 },
];
const Greedy = z.object({ cases: z.array(z.object({ prompt_ids: z.array(z.int()) })) });

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const within = (share: number, actual: number, wanted: number) => Math.abs(actual / wanted - 1) < share;

describe("the embedded model's SAEs, on pages of a book", () => {
  const runs: Run[] = [];
  beforeAll(async () => {
    const llama = openSmallLlama(join(MODEL, "model.safetensors"));
    const [first] = Greedy.parse(JSON.parse(readFileSync(join(MODEL, "reference", "greedy.json"), "utf8"))).cases;
    using reference = openSafetensors(join(MODEL, "reference", "logits.safetensors"));
    const [name = ""] = [...reference.tensors.keys()].sort();
    const logits = reference.readF32(name).subarray(0, 4096);
    expect(maxDifference(llama(first?.prompt_ids ?? []).logits, logits)).toBeLessThan(1e-3);
    const book = readFileSync(join("test", "data", "the-wind-in-the-willows.txt"), "utf8");
    const { encode } = await openEmbedded();
    for (const place of [60_000, 62_000, 64_000, 66_000]) {
      const paragraph = book.indexOf("\n\n", place) + 2;
      const ids = await encode(book.slice(paragraph, paragraph + 2_000));
      runs.push(llama([BOS, ...ids.slice(0, 255)]));
    }
  });

  describe.each(CARD)("blocks.$layer.hook_resid_post$suffix", ({ layer, suffix, activation, l0, unexplained }) => {
    let sae: SaeDescription;
    beforeAll(async () => {
      sae = await openSae(join(MODEL, "saes", `blocks.${layer}.hook_resid_post${suffix}`));
    });

    it("is read like any user's", () => {
      expect(sae).toMatchObject({ format: "saelens", modelName: "default", dIn: 192, dSae: 1024 });
      expect(sae).toMatchObject({ activation: { kind: activation }, normalisation: "layer_norm" });
      expect(sae.hook).toEqual({ tappable: true, name: `blocks.${layer}.hook_resid_post`, ownOutput: false });
    });

    it("has about as many features, and leaves about as much unexplained, as the model's card says", () => {
      const residuals = runs.map((run) => (run.residuals[layer] ?? new Float32Array()).subarray(STARTING * WIDTH));
      const rows = residuals.flatMap((x) => readFeatures(sae, x));
      expect(rows).toHaveLength(4 * (256 - STARTING));
      const errors = rows.reduce((sum, { mse }) => sum + (mse ?? Number.NaN) * WIDTH, 0);
      expect([mean(rows.map((row) => row.l0)), l0]).toSatisfy(([found, card]) => within(0.3, found, card));
      expect([errors / variance(residuals), unexplained]).toSatisfy(([found, card]) => within(0.3, found, card));
    });
  });
});

/** Sum of the squared distances of rows from their mean. */
function variance(residuals: readonly Float32Array[]): number {
  const count = residuals.reduce((sum, { length }) => sum + length / WIDTH, 0);
  let total = 0;
  for (let at = 0; at < WIDTH; at++) {
    const column = residuals.flatMap((x) => Array.from({ length: x.length / WIDTH }, (_, row) => x[row * WIDTH + at]!));
    const centre = column.reduce((sum, value) => sum + value, 0) / count;
    total += column.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  }
  return total;
}
