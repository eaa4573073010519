import * as z from "zod";
import type { LambdaOptions } from "../../runtime/generation.js";
import { notYet } from "./parse.js";

/** `lm_infinite` of a request: which keys its sequences see. */
export const LambdaInfinite = z.strictObject({
  window: z.int().min(1).nullish(),
  sinks: z.int().min(0).nullish(),
  mode: z.enum(["lambda", "full"]).nullish(),
  retrieve: notYet(),
});

export function toLambdaOptions(fields: z.output<typeof LambdaInfinite> | null | undefined): LambdaOptions {
  return {
    window: fields?.window ?? undefined,
    sinks: fields?.sinks ?? undefined,
    mode: fields?.mode ?? undefined,
  };
}
