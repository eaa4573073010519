import type { GpuPrecision } from "./ceilings.js";
import type { Findings } from "./findings.js";
import { type Differences, goalFor } from "./golden-tolerance.js";

/** Begins a table of what goldens come to. */
export function differenceTable(findings: Findings, title: string) {
  const add = findings.table(title, [
    "golden",
    "type",
    "way",
    "largest difference",
    "rms, % of the logits'",
    "first token overturned by up to",
  ]);
  return (
    golden: string,
    precision: GpuPrecision,
    way: string,
    found: Differences,
    /** Whether it must be within the tolerance. */
    held = true,
  ): void =>
    add(
      [golden, precision, way, found.largest, 100 * found.rms, found.overturned],
      held ? goalFor(precision, found) : undefined,
    );
}
