import * as z from "zod";
import { InvalidRequest } from "../../../runtime/contract/errors.js";
import { type FeatureEdit, LARGEST_EDIT, MOST_EDITS, repeatedEdit } from "../../../runtime/contract/features.js";
import type { ModelCard } from "../../../runtime/contract/generation.js";
import { attachedSae } from "./feature-request.js";

const Edit = z
  .strictObject({
    sae: z.string(),
    feature: z.int().min(0),
    op: z.enum(["add", "scale", "clamp", "ablate"]),
    value: z.number().min(-LARGEST_EDIT).max(LARGEST_EDIT).nullish(),
    from: z
      .enum(["kept", "pre"])
      .nullish()
      .describe(
        "What scale, clamp and ablate start from: the activation after the SAE's own cut, so 0 where the feature is not " +
          "kept; or before it. Default: kept",
      ),
  })
  .transform(({ value, from, ...edit }, ctx): FeatureEdit => {
    const refuse = (field: string, input: unknown, message: string) =>
      ctx.issues.push({ code: "custom", message, input, path: [field] });
    if (edit.op === "ablate" && value) refuse("value", value, "ablate takes no value; leave it out");
    if (edit.op !== "ablate" && typeof value !== "number")
      refuse("value", value, `expected a number, which ${edit.op} needs`);
    if (edit.op === "add" && from) refuse("from", from, "add starts from no activation; leave it out");
    return { ...edit, value: value ?? 0, from: from ?? "kept" };
  });

/** `edits` of a request. zod counts an array before it looks into it, so that too many cost nothing. */
export const Edits = z.array(Edit).max(MOST_EDITS, { error: `expected at most ${MOST_EDITS} edits` });

/**
 * @throws InvalidRequest naming the edit whose SAE or feature this model does not have, or whose feature another one edits
 * already.
 */
export function checkEdits(edits: readonly FeatureEdit[], card: ModelCard): void {
  for (const [place, { sae, feature }] of edits.entries()) {
    const { dSae } = attachedSae(sae, card, `edits[${place}].sae`);
    if (feature < dSae) continue;
    throw new InvalidRequest(`SAE '${sae}' has features 0 to ${dSae - 1}`, `edits[${place}].feature`);
  }
  const repeated = repeatedEdit(edits);
  if (repeated === null) return;
  const { first, second } = repeated;
  const { sae, feature } = edits[second] ?? {};
  const reason = `feature ${feature} of SAE '${sae}' is edited by edits[${first}] already: only additions add up`;
  throw new InvalidRequest(reason, `edits[${second}]`);
}
