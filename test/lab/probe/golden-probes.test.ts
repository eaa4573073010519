import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { ModelWithSaes } from "../../../lab/model/open-saes.js";
import { readLabelledTexts } from "../../../lab/probe/labelled-texts.js";
import { meanDifferences, type ProbeSet, sparseProbes, type TextFeatures } from "../../../lab/probe/sparse-probe.js";
import { textFeatures } from "../../../lab/probe/text-features.js";
import { packageRoot } from "../../../models/package-root.js";
import { openSafetensors } from "../../../models/weights/safetensors.js";
import { goldenFolder, maxDifference } from "../../golden-tensors.js";

const cacheDir = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheDir, { recursive: true }));

const TRAIN_TEXTS = 120;
const KS = [1, 2, 5] as const;
const golden = goldenFolder("sae-eval");
const values = openSafetensors(join(golden, "values.safetensors"));

const Probe = z.object({
  features: z.array(z.int()),
  coefficients: z.array(z.number()),
  intercept: z.number(),
  train_accuracy: z.number(),
  test_accuracy: z.number(),
});
const ByK = z.record(z.string(), Probe);
const BySae = z.object({ afa3: ByK, relu: ByK, topk: ByK });
const { probing } = z
  .object({ probing: z.object({ book: BySae, quote: BySae }) })
  .parse(JSON.parse(readFileSync(join(golden, "results.json"), "utf8")));

describe.each(["book", "quote"] as const)("sparse probing of %s", (task) => {
  const texts = readLabelledTexts(join(golden, `probe-${task}.jsonl`));
  let found: ReadonlyMap<string, readonly TextFeatures[]>;
  const dSae = new Map<string, number>();

  beforeAll(async () => {
    const choice = {
      ...{ path: join(packageRoot(), "models", "default"), name: "default", precision: "f32" as const, threads: 1 },
      ...{ device: { kind: "cpu" as const }, cacheDir },
    };
    const folders = ["afa3", "relu", "topk"].map((id) => ({ folder: join(golden, "saes", id) }));
    using opened = await ModelWithSaes.open(choice, { folders, anyModel: false });
    for (const { id, compiled } of opened.saes) dSae.set(id, compiled.description.dSae);
    found = await textFeatures(opened.model, opened.saes, texts);
  });

  const setsOf = (sae: string): readonly [ProbeSet, ProbeSet] => {
    const features = found.get(sae)!;
    const isPositive = texts.map(({ label }) => label === "1");
    return [
      { texts: features.slice(0, TRAIN_TEXTS), isPositive: isPositive.slice(0, TRAIN_TEXTS) },
      { texts: features.slice(TRAIN_TEXTS), isPositive: isPositive.slice(TRAIN_TEXTS) },
    ];
  };

  describe.each(["afa3", "relu", "topk"] as const)("with %s", (sae) => {
    test("finds the same differences of means, and the same values of the features chosen", () => {
      const [train] = setsOf(sae);
      const differences = meanDifferences(train, dSae.get(sae)!);
      const expected = values.readF32(`probe/${task}/${sae}/difference`);
      expect(maxDifference(differences, expected)).toBeLessThan(1e-5 * Math.max(...expected.map(Math.abs)));
      const { features } = probing[task][sae]["5"]!;
      const stored = values.readF32(`probe/${task}/${sae}/x`);
      const own = found
        .get(sae)!
        .flatMap(({ features: active, means }) => features.map((feature) => means[active.indexOf(feature)] ?? 0));
      expect(maxDifference(own, stored)).toBeLessThan(1e-5 * Math.max(...stored));
    });

    test("chooses the same features, and fits and judges the same probes", () => {
      const [train, held] = setsOf(sae);
      for (const probe of sparseProbes(train, held, dSae.get(sae)!, KS)) {
        const expected = probing[task][sae][probe.k]!;
        expect(probe.features).toEqual(expected.features);
        expect(probe.trainAccuracy).toBeCloseTo(expected.train_accuracy, 10);
        expect(probe.testAccuracy).toBeCloseTo(expected.test_accuracy, 10);
        const [own, theirs] = [
          [...probe.coefficients, probe.intercept],
          [...expected.coefficients, expected.intercept],
        ];
        expect(maxDifference(own, theirs)).toBeLessThan(1e-4 * Math.max(...theirs.map(Math.abs)));
      }
    });
  });
});
