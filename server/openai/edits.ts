import * as z from "zod";
import { InvalidRequest } from "../../runtime/errors.js";
import { type FeatureEdit, LARGEST_EDIT, MOST_EDITS } from "../../runtime/features.js";
import type { ModelCard } from "../../runtime/generation.js";
import { attachedSae } from "./feature-request.js";

const Edit = z
  .strictObject({
    sae: z.string(),
    feature: z.int().min(0),
    op: z.enum(["add", "scale", "clamp", "ablate"]),
    value: z.number().min(-LARGEST_EDIT).max(LARGEST_EDIT).nullish(),
  })
  .transform(({ value, ...edit }, ctx): FeatureEdit => {
    const refuse = (message: string) => ctx.issues.push({ code: "custom", message, input: value, path: ["value"] });
    if (edit.op === "ablate" && value) refuse("ablate takes no value; leave it out");
    if (edit.op !== "ablate" && typeof value !== "number") refuse(`expected a number, which ${edit.op} needs`);
    return { ...edit, value: value ?? 0 };
  });

/** `edits` of a request. zod counts an array before it looks into it, so that too many cost nothing. */
export const Edits = z.array(Edit).max(MOST_EDITS, { error: `expected at most ${MOST_EDITS} edits` });

/** @throws InvalidRequest naming the edit whose SAE or feature this model does not have. */
export function checkEdits(edits: readonly FeatureEdit[], card: ModelCard): void {
  for (const [place, { sae, feature }] of edits.entries()) {
    const { dSae } = attachedSae(sae, card, `edits[${place}].sae`);
    if (feature < dSae) continue;
    throw new InvalidRequest(`SAE '${sae}' has features 0 to ${dSae - 1}`, `edits[${place}].feature`);
  }
}
