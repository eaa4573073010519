import { type CompileOptions, compileModel } from "../../models/compile.js";
import { KV_CHOICES, kvProblem, resolveKv } from "../../models/keys-values/kv-choice.js";
import { openKvRanges } from "../../runtime/calibration/open-kv-ranges.js";
import { Runner, type RunnerOptions } from "../../runtime/graphs/runner.js";
import { argument } from "./report.js";

/** A runner that keeps keys and values as a server does, or as `--kv` says; their ranges are those of ids drawn at random. */
export async function servedRunner(source: CompileOptions, options: RunnerOptions): Promise<Runner> {
  const model = await compileModel(source);
  const asked = KV_CHOICES.find((choice) => choice === (argument("kv") ?? "auto"));
  if (asked === undefined) throw new RangeError(`--kv must be one of ${KV_CHOICES.join(", ")}`);
  const setting = { precision: model.precision, device: "cpu", headDim: model.shape.headDim } as const;
  const problem = kvProblem(asked, setting);
  if (problem !== null) throw new RangeError(problem);
  const kv = resolveKv(asked, setting);
  if (kv !== "q8" && kv !== "q4") return new Runner(model, options);
  const ranges = openKvRanges(model, { ids: null, threads: options.threads });
  return new Runner(model, { ...options, kv: { bits: kv === "q8" ? 8 : 4, ranges } });
}
