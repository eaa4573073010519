import * as z from "zod";
import type { ChosenActivation } from "../../../models/sae/chosen-activation.js";
import { InvalidRequest } from "../../../runtime/contract/errors.js";
import type { FeatureRequest, SaeCard } from "../../../runtime/contract/features.js";
import type { ModelCard } from "../../../runtime/contract/generation.js";

/** How an SAE's features are chosen: as it was trained, by top-AFA, or the k largest. */
const Activation = z
  .union([z.literal(["native", "top-afa"]), z.strictObject({ top_k: z.int().min(1) })], {
    error: 'expected "native", "top-afa" or {"top_k": k}',
  })
  .transform(
    (chosen): ChosenActivation => (typeof chosen === "string" ? { kind: chosen } : { kind: "top-k", k: chosen.top_k }),
  );

const SaeIds = z
  .array(z.string())
  .min(1, { error: "expected at least one SAE; leave it out for all" })
  .max(1024, { error: "expected at most 1024 SAEs" })
  .check(({ value, issues }) => {
    for (const [place, id] of value.entries()) {
      if (value.indexOf(id) === place) continue;
      issues.push({ code: "custom", message: "expected each SAE once", input: id, path: [place] });
    }
  });

/** Which SAEs read the tokens, and how much of it is told. */
export const ReadingFields = z.strictObject({
  /** Left out: all attached. */
  saes: SaeIds.nullish(),
  top: z.int().min(0).max(100_000).nullish(),
  activation: Activation.nullish(),
});

/** `features` of a completion request. */
export const FeatureFields = ReadingFields.extend({ prompt: z.boolean().nullish() });

/**
 * The meaning of the fields on this model. `at` is the field that holds them, null where they are the body's own.
 * @throws InvalidRequest naming the one that this model's SAEs cannot serve.
 */
export function toFeatureRequest(
  fields: z.output<typeof FeatureFields>,
  card: ModelCard,
  at: "features" | null = "features",
): FeatureRequest {
  const path = (field: string) => (at === null ? field : `${at}.${field}`);
  const saes = fields.saes?.map((id, place) => attachedSae(id, card, path(`saes[${place}]`))) ?? card.saes;
  if (saes.length === 0) throw new InvalidRequest("this model has no SAE attached to read its tokens", at);
  const activation = fields.activation ?? { kind: "native" };
  for (const { id, dSae } of saes) {
    if (activation.kind !== "top-k" || activation.k <= dSae) continue;
    throw new InvalidRequest(`SAE '${id}' has ${dSae} features, fewer than that`, path("activation.top_k"));
  }
  return { saes: saes.map(({ id }) => id), top: fields.top ?? 8, activation, prompt: fields.prompt ?? false };
}

/** @throws InvalidRequest about the field `at`. */
export function attachedSae(id: string, card: ModelCard, at: string): SaeCard {
  const sae = card.saes.find((other) => other.id === id);
  if (sae === undefined)
    throw new InvalidRequest(`there is no SAE '${id}' on this model (GET /v1/saes lists them)`, at);
  return sae;
}
