import { join } from "node:path";
import { sampleStandardDeviation } from "simple-statistics";
import { z } from "zod";
import { compileModel } from "../../models/compile.js";
import { PRECISIONS, type Precision } from "../../models/weights/block-format.js";
import type { SaeReading } from "../../runtime/contract/features.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { AttachedSaes } from "../../runtime/saes/attached-saes.js";
import { onCpu } from "../bfloat16-on-cpu.js";
import { benchFolder } from "./bench-model.js";
import { heldOutTokens } from "./held-out-tokens.js";
import { argument, type Figure, mean, percentile, report } from "./report.js";
import { textNll } from "./text-nll.js";

/**
 * What forms of weights, of activations, and of keys and values change: NLL of a held-out book's tokens with lambda
 * attention beside that of the same model in f32, and where the model has SAEs, their readings. --forms int8,q4,..: which.
 */
const SINKS = 10;
/** Of the NLL in f32. */
const GOAL = 0.005;
/** Numbers of a chunk's logits, at most. */
const LOGITS = 1 << 24;
const path = argument("model") ?? join("models", "default");
const asked = Number(argument("tokens") ?? 20_000);
const forms = z.array(z.enum(PRECISIONS)).parse((argument("forms") ?? "f16,bf16,int8,q8-block,q4").split(","));
const threads = Number(argument("threads") ?? 2);
const cacheRoot = benchFolder("cache");

const SCALARS = ["l0", "z", "f", "mse"] as const;

interface Run {
  readonly nll: Float64Array;
  readonly readings: readonly SaeReading[];
}

const exact = await run("f32");
const nll = mean(exact.nll);
const figures: Figure[] = [{ name: "f32", value: nll, unit: "nat" }];
for (const form of forms) {
  const found = await run(form);
  const differences = [...found.nll].map((value, i) => value - (exact.nll[i] ?? Number.NaN));
  const share = mean(differences) / nll;
  const error = sampleStandardDeviation(differences) / Math.sqrt(differences.length) / nll;
  figures.push({
    name: `${form}${form === "bf16" ? " (rounded on the CPU)" : ""}`,
    value: mean(found.nll),
    unit: "nat",
    beside: `${percent(share)} ± ${(error * 100).toFixed(3)} from f32, goal within +${GOAL * 100} %`,
    met: share <= GOAL,
  });
  for (const scalar of exact.readings.length > 0 ? SCALARS : []) figures.push(shift(scalar, found.readings));
}
report(`accuracy: ${exact.nll.length} tokens of ${path}, ${SINKS} sinks`, figures);

/** Reads the text with the model in one form; a CPU computes bf16 in f32, and rounds what each node gives. */
async function run(precision: Precision): Promise<Run> {
  const model = await compileModel({ path, precision, cacheRoot });
  const { shape } = model;
  const window = Number(argument("window") ?? Math.min(shape.trainedLength, 1024));
  const ids = await heldOutTokens(path, shape, asked, argument("text"));
  const choice = { folders: undefined, precision: "f32", anyModel: false } as const;
  const names = ["default"];
  using saes = await AttachedSaes.attach({ choice, model, folder: path, names, cacheRoot, threads: 1, spin: false });
  using runner = new Runner(precision === "bf16" ? onCpu(model) : model, { window, threads, taps: saes.hooks });
  const chunk = Math.min(window, 256, Math.floor(LOGITS / shape.vocabSize));
  const request = {
    saes: saes.cards.map(({ id }) => id),
    top: 0,
    activation: { kind: "native" },
    prompt: true,
  } as const;
  const readings: SaeReading[] = [];
  const nll = textNll(runner, ids, chunk, { window, sinks: SINKS }, (residuals) => {
    readings.push(...saes.read(request, residuals).flat());
  });
  return { nll: nll.subarray(1), readings };
}

/** How far a scalar of the readings is from what it is in f32, of those that tell it. */
function shift(scalar: (typeof SCALARS)[number], found: readonly SaeReading[]): Figure {
  const apart = exact.readings
    .map((reading, i) => Math.abs((found[i]?.[scalar] ?? Number.NaN) / (reading[scalar] ?? Number.NaN) - 1) * 100)
    .filter(Number.isFinite);
  return {
    name: `  ${scalar} of SAEs, median difference`,
    value: percentile(apart, 0.5),
    unit: "%",
    beside: `one in a hundred by ${percentile(apart, 0.99).toPrecision(2)} % or more`,
  };
}

function percent(share: number): string {
  return `${share < 0 ? "" : "+"}${(share * 100).toFixed(3)} %`;
}
