import { z } from "zod";
import type { SaeActivation, SaeDescription } from "./sae.js";
import { type SaeHook, transformerLensHook, untappable } from "./sae-hook.js";

/** An SAE without its matrices. */
export type SaeOutline = Omit<SaeDescription, "wEnc" | "wDec" | "wSkip">;

const size = z.int().min(1);
const count = z.int().min(0);

const Hook = z.discriminatedUnion("tappable", [
  z.object({ tappable: z.literal(true), name: z.string(), ownOutput: z.boolean() }),
  z.object({ tappable: z.literal(false), name: z.string().nullable(), reason: z.string() }),
]);

const Activation = z.discriminatedUnion("kind", [
  z.object({ kind: z.enum(["relu", "jumprelu", "gated", "top-afa"]) }),
  z.object({ kind: z.literal("top-k"), k: size }),
  z.object({ kind: z.literal("group-max"), groups: size }),
]);

/** An SAE in the compile cache: what is not numbers, and where in the weights file the numbers are. */
export const StoredSae = z.object({
  file: z.string(),
  format: z.enum(["saelens", "sparsify", "dictionary_learning", "gemma-scope", "top-afa-sae"]),
  kind: z.enum(["autoencoder", "transcoder"]),
  dIn: size,
  dSae: size,
  dOut: size,
  subtractsBDec: z.boolean(),
  normalisation: z.enum(["none", "centre", "layer_norm", "constant_norm_rescale"]),
  activation: Activation,
  hook: Hook,
  modelName: z.string().nullable(),
  centredWeights: z.boolean(),
  metadata: z.record(z.string(), z.unknown()),
  bytes: size,
  places: z.record(
    z.string(),
    z.object({ type: z.enum(["float32", "uint8"]), shape: z.array(count).readonly(), offset: count, bytes: count }),
  ),
});
export type StoredSae = z.infer<typeof StoredSae>;

/** The vectors of an SAE, by the names that they are stored under. */
export function vectorsOf({ bEnc, bDec, activation }: SaeOutline): Map<string, Float32Array> {
  const vectors = new Map([["b_dec", bDec]]);
  if (bEnc) vectors.set("b_enc", bEnc);
  if (activation.kind === "jumprelu") vectors.set("threshold", activation.threshold);
  if (activation.kind === "gated")
    vectors.set("b_gate", activation.bGate).set("b_mag", activation.bMag).set("r_mag", activation.rMag);
  return vectors;
}

/** What `outlineOf` makes an outline of, but for the places of numbers. */
export function storedOutline(outline: SaeOutline): Omit<StoredSae, "bytes" | "places"> {
  const { bDec: _, bEnc: __, activation, ...rest } = outline;
  switch (activation.kind) {
    case "jumprelu":
    case "gated":
      return { ...rest, activation: { kind: activation.kind } };
    default:
      return { ...rest, activation };
  }
}

/** @param vector reads a stored vector */
export function outlineOf(stored: StoredSae, vector: (name: string) => Float32Array): SaeOutline {
  const { bytes: _, places, activation, hook, ...rest } = stored;
  return {
    ...rest,
    bDec: vector("b_dec"),
    bEnc: "b_enc" in places ? vector("b_enc") : null,
    activation: activationOf(activation, vector),
    hook: hookOf(hook),
  };
}

function hookOf(stored: StoredSae["hook"]): SaeHook {
  if (!stored.tappable) return untappable(stored.name, stored.reason);
  const hook = transformerLensHook(stored.name);
  return hook.tappable ? { ...hook, ownOutput: stored.ownOutput } : hook;
}

function activationOf(stored: StoredSae["activation"], vector: (name: string) => Float32Array): SaeActivation {
  switch (stored.kind) {
    case "jumprelu":
      return { kind: "jumprelu", threshold: vector("threshold") };
    case "gated":
      return { kind: "gated", bGate: vector("b_gate"), bMag: vector("b_mag"), rMag: vector("r_mag") };
    case "relu":
    case "top-afa":
      return { kind: stored.kind };
    default:
      return stored;
  }
}
