import * as z from "zod";
import type { LambdaOptions } from "../../../runtime/contract/generation.js";

const Retrieve = z.strictObject({
  k: z.int().min(1).nullish(),
  from_layer: z.int().min(0).nullish(),
  distance: z.int().min(0).nullish(),
});

/** `lm_infinite` of a request: which keys its sequences see. */
export const LambdaInfinite = z.strictObject({
  window: z.int().min(1).nullish(),
  sinks: z.int().min(0).nullish(),
  mode: z.enum(["lambda", "full"]).nullish(),
  retrieve: Retrieve.nullish(),
});

export function toLambdaOptions(fields: z.output<typeof LambdaInfinite> | null | undefined): LambdaOptions {
  const { window, sinks, mode, retrieve } = fields ?? {};
  return {
    window: window ?? undefined,
    sinks: sinks ?? undefined,
    mode: mode ?? undefined,
    ...(retrieve ? { retrieve: toRetrieve(retrieve) } : {}),
  };
}

const toRetrieve = ({ k, from_layer, distance }: z.output<typeof Retrieve>): LambdaOptions["retrieve"] => ({
  k: k ?? undefined,
  fromLayer: from_layer ?? undefined,
  distance: distance ?? undefined,
});
