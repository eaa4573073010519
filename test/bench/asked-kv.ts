import { z } from "zod";
import type { CompiledModel } from "../../models/compile.js";
import type { KvFormat } from "../../models/kv-format.js";
import { openKvRanges } from "../../runtime/calibration/open-kv-ranges.js";
import { argument } from "./report.js";

/** How keys and values are kept, by --kv q8 or q4; left out: null, as the activations. */
export const ASKED_KV = z
  .enum(["q8", "q4"])
  .nullable()
  .parse(argument("kv") ?? null);

/** The same for a model of random weights, which is calibrated with random ids. */
export const askedKv = (model: CompiledModel, threads: number): KvFormat | null =>
  ASKED_KV === null ? null : { bits: ASKED_KV === "q8" ? 8 : 4, ranges: openKvRanges(model, { ids: null, threads }) };
