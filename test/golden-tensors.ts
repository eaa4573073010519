import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { openSafetensors } from "../models/weights/safetensors.js";

const GOLDEN = join("test", "golden");

/** Folder of a golden model, e.g. "lm-infinite" or "architectures/llama". */
export const goldenFolder = (name: string): string => join(GOLDEN, name);

/** Variants of a model that give its values; every other model has its own. */
const VARIANTS: Readonly<Record<string, string>> = {
  llama_sharded: "llama",
  gpt2_noprefix: "gpt2",
  bloom_noprefix: "bloom",
  gpt_neox_buffers: "gpt_neox_sequential",
};

/** Every model of golden/architectures, and the folder that holds what it must give. */
export const goldenArchitectures = (): { readonly name: string; readonly expectedFrom: string }[] =>
  readdirSync(join(GOLDEN, "architectures"))
    .map((name) => ({ name, expectedFrom: VARIANTS[name] ?? name }))
    .filter(({ expectedFrom }) => existsSync(join(GOLDEN, "architectures", expectedFrom, "expected.safetensors")));

/** Tensors of expected.safetensors in a golden folder. */
export function expectedTensors(
  name: string,
): Map<string, { readonly shape: readonly number[]; readonly values: Float32Array }> {
  using file = openSafetensors(join(GOLDEN, name, "expected.safetensors"));
  return new Map(
    [...file.tensors.keys()].map((key) => [
      key,
      { shape: file.tensors.get(key)?.shape ?? [], values: file.readF32(key) },
    ]),
  );
}

const Ids = z.union([z.array(z.int()), z.object({ ids: z.array(z.int()) }).transform((file) => file.ids)]);
const Sequences = z.object({ sequences: z.array(z.array(z.int())) });

export const goldenIds = (name: string): number[] =>
  Ids.parse(JSON.parse(readFileSync(join(GOLDEN, name, "ids.json"), "utf8")));

export const goldenSequences = (name: string): number[][] =>
  Sequences.parse(JSON.parse(readFileSync(join(GOLDEN, name, "ids.json"), "utf8"))).sequences;

/** Largest absolute difference; NaN counts as infinitely far. */
export function maxDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new RangeError(`${a.length} values against ${b.length}`);
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs((a[i] ?? 0) - (b[i] ?? 0));
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return largest;
}
