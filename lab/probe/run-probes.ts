import { SetupError } from "../../runtime/contract/errors.js";
import type { ModelChoice, Onlookers } from "../model/lab-model.js";
import { ModelWithSaes, type SaesChoice } from "../model/open-saes.js";
import { type LabelledText, type ProbeTexts, probedLabels } from "./labelled-texts.js";
import { type ProbeSet, type SparseProbe, sparseProbes, type TextFeatures } from "./sparse-probe.js";
import { type TextOnlookers, textFeatures } from "./text-features.js";

export interface ProbeChoice {
  readonly model: ModelChoice;
  readonly saes: SaesChoice;
  readonly texts: ProbeTexts;
  /** Numbers of features that probes read, rising. */
  readonly ks: readonly number[];
}

/** The probes of one SAE for one label. */
export interface LabelProbes {
  /** What is told from the others. */
  readonly label: string;
  /** Share of the test texts that are right where all are given to the larger class. */
  readonly commonest: number;
  readonly probes: readonly SparseProbe[];
}

export interface ProbeResults {
  readonly model: string;
  readonly texts: { readonly train: number; readonly test: number };
  readonly saes: readonly { readonly id: string; readonly hook: string; readonly labels: readonly LabelProbes[] }[];
}

/**
 * Sparse probing of several SAEs of one model. Of more than two labels each is told from all the others.
 * @throws SetupError where the texts or the SAEs do not allow it, and as `ModelWithSaes.open` and `textFeatures`
 */
export async function runProbes(
  { model, saes, texts, ks }: ProbeChoice,
  on: Onlookers & TextOnlookers = {},
): Promise<ProbeResults> {
  const labels = probedLabels(texts);
  using opened = await ModelWithSaes.open(model, saes, on);
  const most = Math.max(...ks);
  for (const { id, compiled } of opened.saes)
    if (compiled.description.dSae < most)
      throw new SetupError(`${id} has ${compiled.description.dSae} features, and a probe was asked to read ${most}`);
  const all = [...texts.train, ...texts.test];
  const found = await textFeatures(opened.model, opened.saes, all, on);
  return {
    model: opened.model.name,
    texts: { train: texts.train.length, test: texts.test.length },
    saes: opened.saes.map(({ id, hook, compiled }) => ({
      id,
      hook,
      labels: labels.map((label) => {
        const features = found.get(id)!;
        const train = probeSet(features.slice(0, texts.train.length), texts.train, label);
        const test = probeSet(features.slice(texts.train.length), texts.test, label);
        const positives = test.isPositive.filter(Boolean).length / test.isPositive.length;
        const probes = sparseProbes(train, test, compiled.description.dSae, ks);
        return { label, commonest: Math.max(positives, 1 - positives), probes };
      }),
    })),
  };
}

const probeSet = (texts: readonly TextFeatures[], labelled: readonly LabelledText[], label: string): ProbeSet => ({
  texts,
  isPositive: labelled.map((text) => text.label === label),
});
