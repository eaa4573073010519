import { appendActivations } from "./candidates.js";
import type { RowCutter, RowRule } from "./row-cutter.js";

/** What threads do with all rows of a batch. */
export type CutJob =
  | { readonly kind: "cut"; readonly rule: RowRule }
  /** Copies activations that are above 0 and not below `least` into `collected`. */
  | { readonly kind: "collect"; readonly least: number }
  /** As `RowCutter.revive`. */
  | { readonly kind: "revive"; readonly dead: number; readonly most: number };

const CODES = ["top-afa", "topk", "threshold", "collect", "revive"] as const;
/** Numbers that a job is told in. */
export const JOB_NUMBERS = 3;

/** A job as numbers, which threads can share. */
export function encodeJob(job: CutJob, into: Float64Array): void {
  const kind = job.kind === "cut" ? job.rule.kind : job.kind;
  into.set([CODES.indexOf(kind), ...operands(job)]);
}

function operands(job: CutJob): readonly [number, number] {
  if (job.kind === "collect") return [job.least, 0];
  if (job.kind === "revive") return [job.dead, job.most];
  if (job.rule.kind === "threshold") return [job.rule.threshold, 0];
  return [job.rule.hint, job.rule.kind === "topk" ? job.rule.k : job.rule.longest];
}

export function decodeJob([code = 0, a = 0, b = 0]: Float64Array): CutJob {
  switch (CODES[code]) {
    case "top-afa":
      return { kind: "cut", rule: { kind: "top-afa", hint: a, longest: b } };
    case "topk":
      return { kind: "cut", rule: { kind: "topk", hint: a, k: b } };
    case "threshold":
      return { kind: "cut", rule: { kind: "threshold", threshold: a } };
    case "collect":
      return { kind: "collect", least: a };
    default:
      return { kind: "revive", dead: a, most: b };
  }
}

/** Does the share of one of `threads`: rows that follow each other. What is collected stands at the place of the first. */
export function runShare(cutter: RowCutter, job: CutJob, thread: number, threads: number): void {
  const { batch, dSae } = cutter.sizes;
  const first = Math.floor((thread * batch) / threads);
  const end = Math.floor(((thread + 1) * batch) / threads);
  const { activations, collected, collectedCounts } = cutter.arrays;
  let found = 0;
  for (let row = first; row < end; row++) {
    if (job.kind === "cut") cutter.cut(row, job.rule);
    else if (job.kind === "revive") cutter.revive(row, job.dead, job.most);
    else {
      const values = activations.subarray(row * dSae, (row + 1) * dSae);
      found += appendActivations(values, job.least, collected, first * dSae + found);
    }
  }
  collectedCounts[thread] = found;
}
