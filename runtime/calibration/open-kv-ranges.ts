import { createHash } from "node:crypto";
import type { CompiledModel } from "../../models/compile.js";
import { decodeKvRanges, encodeKvRanges, type KvRanges } from "../../models/keys-values/kv-ranges.js";
import { Runner } from "../graphs/runner.js";
import { calibrationTexts } from "./calibration-texts.js";
import { calibrationLength, kvRangesOf } from "./kv-ranges-of.js";

/** Raised when the same texts would give other ranges. */
const VERSION = 1;

export interface KvRangesOptions {
  /** Ids of the calibration text; null: the model has no tokenizer. */
  readonly ids: ArrayLike<number> | null;
  readonly threads: number;
  readonly spin?: boolean;
  /** Called with the seconds it took where ranges had to be measured. */
  readonly onMeasured?: (seconds: number) => void;
}

/**
 * The ranges of a model's keys and values: measured once, by running it on the CPU, and kept beside its weights.
 * @throws SetupError as `kvRangesOf`; CacheError when they cannot be kept.
 */
export function openKvRanges(model: CompiledModel, { ids, onMeasured, ...threads }: KvRangesOptions): KvRanges {
  const texts = calibrationTexts(model, ids);
  const hash = createHash("sha256").update(JSON.stringify(texts)).digest("hex").slice(0, 12);
  const name = `kv-ranges-v${VERSION}-${hash}.bin`;
  const stored = model.measured.read(name);
  const known = stored === null ? null : decodeKvRanges(stored, model.shape);
  if (known !== null) return known;
  const began = performance.now();
  using runner = new Runner(model, { window: calibrationLength(model.shape), ...threads });
  const ranges = kvRangesOf(runner, texts);
  model.measured.write(name, encodeKvRanges(ranges));
  onMeasured?.((performance.now() - began) / 1000);
  return ranges;
}
