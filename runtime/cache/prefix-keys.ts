import { createHash } from "node:crypto";
import type { FeatureEdit } from "../contract/features.js";
import type { LambdaGeometry } from "./lambda-cache.js";
import type { ModelIdentity } from "./model-identity.js";

/** What the keys and values of a prompt depend on besides its tokens. */
export interface PrefixSource {
  readonly model: ModelIdentity;
  /** Of the row. */
  readonly geometry: LambdaGeometry;
  /** Those that the prompt is read with. */
  readonly edits: readonly FeatureEdit[];
  /** Prompts with another salt share nothing. */
  readonly salt: string | undefined;
}

/**
 * Names of a prompt's whole blocks of `tokens` tokens: of each the sha256 (base64) of the name before and of its ids, of the
 * first with all that the keys depend on besides. So a name stands for the whole text up to the end of its block.
 */
export function blockKeys(
  { model, geometry: { window, sinks }, edits, salt }: PrefixSource,
  ids: Int32Array,
  tokens: number,
): string[] {
  // JSON has no Infinity.
  let name = sha256(JSON.stringify([model, `${window}`, sinks, tokens, edits, salt ?? null]));
  return Array.from({ length: Math.floor(ids.length / tokens) }, (_, i) => {
    const block = ids.subarray(i * tokens, (i + 1) * tokens);
    name = sha256(name, new Uint8Array(block.buffer, block.byteOffset, block.byteLength));
    return name;
  });
}

function sha256(...parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("base64");
}
