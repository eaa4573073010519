import { terminalTable } from "../../loadtest/report/report.js";
import type { LabelProbes, ProbeResults } from "./run-probes.js";

/** The results for people: a table, of several labels with their mean. */
export function probeTable({ model, texts, saes }: ProbeResults): string {
  const rows = saes.flatMap(({ id, labels }) =>
    ksOf(labels).flatMap((k, i) => {
      const each = labels.map(({ label, commonest, probes }) => ({ label, commonest, ...probes[i]! }));
      const lines = each.map(({ label, commonest, trainAccuracy, testAccuracy, features }) => [
        ...[id, label, String(k), percent(trainAccuracy), percent(testAccuracy), percent(commonest)],
        features.join(" "),
      ]);
      if (each.length === 1) return lines;
      const mean = (of: (probe: (typeof each)[number]) => number) =>
        percent(each.reduce((sum, probe) => sum + of(probe), 0) / each.length);
      const means = [mean((p) => p.trainAccuracy), mean((p) => p.testAccuracy), mean((p) => p.commonest)];
      return [...lines, [id, "mean", String(k), ...means, ""]];
    }),
  );
  return terminalTable({
    title: `Sparse probing of ${model}: ${texts.train} texts to train with, ${texts.test} to test; accuracy in %`,
    columns: ["SAE", "label", "k", "train", "test", "commonest", "features"],
    rows,
  });
}

/** The same for programs, in one line. */
export function probeJson({ saes, ...rest }: ProbeResults): string {
  return JSON.stringify({
    ...rest,
    saes: saes.map(({ labels, ...sae }) => ({
      ...sae,
      labels: labels.map(({ label, commonest, probes }) => ({
        label,
        commonest,
        probes: probes.map(({ trainAccuracy, testAccuracy, ...probe }) => ({
          ...probe,
          train_accuracy: trainAccuracy,
          test_accuracy: testAccuracy,
        })),
      })),
    })),
  });
}

const ksOf = (labels: readonly LabelProbes[]): number[] => labels[0]?.probes.map(({ k }) => k) ?? [];

const percent = (share: number): string => (100 * share).toFixed(1);
