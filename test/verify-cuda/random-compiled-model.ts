import { createHash } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describeModel } from "../../models/architectures/index.js";
import type { CompiledGraph, CompiledModel } from "../../models/compile.js";
import {
  type BuiltGraph,
  buildActivations,
  buildDecode,
  buildLens,
  buildPrefill,
  planWeights,
} from "../../models/graphs.js";
import type { HookName } from "../../models/hooks.js";
import { activationsOf } from "../../models/weights/block-format.js";
import { llamaConfig } from "../models/random-model.js";
import type { GpuPrecision } from "./ceilings.js";
import { writeRandomWeights } from "./random-weights-file.js";
import type { Shape } from "./shapes.js";

const WEIGHTS_FILE = "weights.bin";

/** A model of random weights as if it had been compiled: no checkpoint of gigabytes is written first. */
export function randomCompiledModel({ name, sizes }: Shape, precision: GpuPrecision, scratch: string): CompiledModel {
  const model = describeModel({ file: `random ${name}`, values: llamaConfig(sizes, true) });
  const stored = { precision, device: "cuda" as const, dtypes: new Map<string, string>() };
  const { plan, hooks } = planWeights(model, stored);
  const folder = join(scratch, `${name}-${sizes.layers}-${precision}`);
  const path = join(folder, WEIGHTS_FILE);
  writeRandomWeights(path, plan.bytes, plan.places.values());
  const none = new Set<HookName>();
  const options = { ...stored, weightsFile: WEIGHTS_FILE, taps: none, edits: none };
  return {
    modelType: model.modelType,
    content: "",
    shape: model.shape,
    precision,
    activations: activationsOf(precision),
    generation: {},
    notices: [],
    weights: { path, bytes: plan.bytes, places: plan.places },
    hooks,
    decode: (asked) => written(folder, "decode", buildDecode(model, plan, { ...options, ...asked })),
    prefill: (asked) => written(folder, "prefill", buildPrefill(model, plan, { ...options, ...asked })),
    reading: (taps) => written(folder, "activations", buildActivations(model, plan, { ...options, taps })),
    lens: () => written(folder, "lens", buildLens(model, plan, { ...options, sinks: 0 })),
    measured: { read: () => null, write: () => {} },
  };
}

function written<Interface>(
  folder: string,
  name: string,
  { bytes, interface: names }: Pick<BuiltGraph<Interface>, "bytes" | "interface">,
): CompiledGraph<Interface> {
  const path = join(folder, `${name}-${createHash("sha256").update(bytes).digest("hex").slice(0, 12)}.onnx`);
  if (!existsSync(path)) writeFileSync(path, bytes);
  return { path, interface: names };
}
