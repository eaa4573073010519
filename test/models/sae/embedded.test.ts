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
const HeldOut = z.object({ l0_mean: z.number(), eps_lbo_mean: z.number(), variance_unexplained: z.number() });
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

  describe.each([1, 3, 5])("after block %i", (layer) => {
    let sae: SaeDescription;
    beforeAll(async () => {
      sae = await openSae(join(MODEL, "saes", `blocks.${layer}.hook_resid_post`));
    });

    it("are read like any user's", () => {
      expect(sae).toMatchObject({ format: "saelens", modelName: "default", dIn: 192, dSae: 1024, bEnc: null });
      expect(sae).toMatchObject({ activation: { kind: "top-afa" }, normalisation: "layer_norm" });
      expect(sae.hook).toEqual({ tappable: true, name: `blocks.${layer}.hook_resid_post`, ownOutput: false });
    });

    it("have about as many features and as small an eps_lbo as on their own held-out books", () => {
      const heldOut = HeldOut.parse(sae.metadata.heldout);
      // As the SAEs were trained: BOS, then a paragraph's beginning, without the residual of BOS itself.
      const rows = runs.flatMap(({ residuals }) =>
        readFeatures(sae, (residuals[layer] ?? new Float32Array()).subarray(WIDTH)),
      );
      expect(rows).toHaveLength(4 * 255);
      expect(within(0.2, mean(rows.map(({ l0 }) => l0)), heldOut.l0_mean)).toBe(true);
      expect(within(0.5, mean(rows.map(({ epsLbo }) => epsLbo ?? Number.NaN)), heldOut.eps_lbo_mean)).toBe(true);
    });
  });
});
