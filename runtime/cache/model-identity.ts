import { createHash } from "node:crypto";
import { z } from "zod";
import type { CompiledModel } from "../../models/compile.js";
import { type KvFormat, kvType } from "../../models/keys-values/kv-format.js";
import { takesLongFactors } from "../../models/rope.js";
import { PRECISIONS } from "../../models/weights/block-format.js";
import { SnapshotError } from "../contract/errors.js";

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** What keys and values depend on besides the text. Rows may move between servers where this is equal. */
export const ModelIdentity = z.object({
  /** Hash of the model's config and weights. */
  content: sha256,
  /** Of the weights. */
  precision: z.enum(PRECISIONS),
  /** Of keys and values. */
  elements: z.enum(["float32", "float16", "bfloat16", "q8", "q4"]),
  /**
   * Hash of what else keys and values are made with: positions, which depend on the server's window with longrope, and what
   * codes stand for.
   */
  keys: sha256,
});
export type ModelIdentity = z.infer<typeof ModelIdentity>;

/** @param window the server's; @param kv how it keeps keys and values as integers, or null */
export function modelIdentity(
  { content, precision, activations, shape }: CompiledModel,
  window: number,
  kv: KvFormat | null = null,
): ModelIdentity {
  const positions = shape.geometries.map(({ window: own, positions }) =>
    positions.kind === "rotary"
      ? { ...positions, long: takesLongFactors(positions.rope, own === "lambda" ? window : own) }
      : positions,
  );
  const keys = createHash("sha256").update(JSON.stringify(positions));
  for (const ranges of kv === null ? [] : [...kv.ranges.keys, ...kv.ranges.values]) keys.update(ranges);
  return { content, precision, elements: kvType(kv, activations), keys: keys.digest("hex") };
}

/** @throws SnapshotError where what one model has computed means something else to the other. */
export function checkIdentity(stored: ModelIdentity, own: ModelIdentity): void {
  const differs = (problem: string) => new SnapshotError("model", `the snapshot is of ${problem}`);
  if (stored.content !== own.content)
    throw differs(`another model (${short(stored.content)}; this one is ${short(own.content)})`);
  if (stored.precision !== own.precision)
    throw differs(`the model in ${stored.precision}, and it is served in ${own.precision}`);
  if (stored.elements !== own.elements)
    throw differs(`keys and values in ${stored.elements}, and they are kept in ${own.elements}`);
  if (stored.keys !== own.keys)
    throw differs(
      "the model with other positions (longrope takes other factors with this server's window) or other ranges of keys and values",
    );
}

const short = (hash: string): string => hash.slice(0, 12);
