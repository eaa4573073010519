import { join } from "node:path";
import { sampleStandardDeviation } from "simple-statistics";
import { z } from "zod";
import { PRECISIONS } from "../../models/weights/block-format.js";
import type { SaeReading } from "../../runtime/contract/features.js";
import { type Form, runForm } from "./accuracy-run.js";
import { argument, type Figure, mean, percentile, report } from "./report.js";

/**
 * What forms of weights and activations, and of keys and values, change: NLL of a held-out book's tokens with lambda attention
 * beside that of the same model in f32, and where the model has SAEs, their readings. --forms int8,f32/q8,..: which, keys and
 * values behind the slash.
 */
const FORMS = "f16,bf16,int8,q8-block,q4,f32/q8,f32/q4,int8/q8,q4/q8";
/** Of the NLL in f32. 4 bits of keys and values have no goal. */
const GOALS = { weights: 0.005, q8: 0.002 };
const SCALARS = ["l0", "z", "f", "mse"] as const;
const number = (name: string): number | undefined => {
  const given = argument(name);
  return given === undefined ? undefined : Number(given);
};

const Forms = z.array(
  z
    .string()
    .transform((name) => name.split("/"))
    .pipe(z.union([z.tuple([z.enum(PRECISIONS)]), z.tuple([z.enum(PRECISIONS), z.enum(["q8", "q4"])])]))
    .transform(([precision, kv]): Form => ({ precision, kv: kv ?? null })),
);
const forms = Forms.parse((argument("forms") ?? FORMS).split(","));
const path = argument("model") ?? join("models", "default");
const options = {
  path,
  tokens: number("tokens") ?? 20_000,
  text: argument("text"),
  window: number("window"),
  threads: number("threads") ?? 2,
};

const exact = await runForm({ precision: "f32", kv: null }, options);
const nll = mean(exact.nll);
const figures: Figure[] = [{ name: "f32", value: nll, unit: "nat" }];
for (const form of forms) {
  const found = await runForm(form, options);
  const differences = [...found.nll].map((value, i) => value - (exact.nll[i] ?? Number.NaN));
  const share = mean(differences) / nll;
  const error = sampleStandardDeviation(differences) / Math.sqrt(differences.length) / nll;
  const goal = goalOf(form);
  figures.push({
    name: nameOf(form),
    value: mean(found.nll),
    unit: "nat",
    beside: `${percent(share)} ± ${(error * 100).toFixed(3)} from f32${goal === null ? "" : `, goal within ${percent(goal)}`}`,
    ...(goal === null ? {} : { met: share <= goal }),
  });
  for (const [what, share] of Object.entries(found.beyond ?? {}))
    figures.push({ name: `  ${what} beyond what ${form.kv} holds`, value: share * 100, unit: "%" });
  for (const scalar of exact.readings.length > 0 ? SCALARS : []) figures.push(shift(scalar, found.readings));
}
report(`accuracy: ${exact.nll.length} tokens of ${path}`, figures);

function goalOf({ precision, kv }: Form): number | null {
  if (kv === "q4") return null;
  return (precision === "f32" ? 0 : GOALS.weights) + (kv === null ? 0 : GOALS.q8);
}

function nameOf({ precision, kv }: Form): string {
  const weights = precision === "bf16" ? "bf16 (rounded on the CPU)" : precision;
  return kv === null ? weights : `${weights}, keys and values in ${kv}`;
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
  return `${share < 0 ? "" : "+"}${(share * 100).toPrecision(3)} %`;
}
