import { type CompileOptions, compileModel } from "../../../models/compile.js";
import type { KvFormat } from "../../../models/keys-values/kv-format.js";
import { openKvRanges } from "../../../runtime/calibration/open-kv-ranges.js";
import { Runner, type RunnerOptions } from "../../../runtime/graphs/runner.js";

/** Bits of keys and values; null: those of the activations. */
export type KvBits = KvFormat["bits"] | null;

/** A runner whose keys and values are kept in so many bits, with the ranges of ids drawn from the vocabulary. */
export async function codedRunner(
  source: CompileOptions,
  bits: KvBits,
  options: RunnerOptions,
): Promise<{ readonly runner: Runner; readonly kv: KvFormat | null }> {
  const model = await compileModel(source);
  const kv = bits === null ? null : { bits, ranges: openKvRanges(model, { ids: null, threads: options.threads }) };
  return { runner: new Runner(model, { ...options, kv }), kv };
}
