import type { LambdaGeometry } from "../../runtime/cache/lambda-cache.js";
import { residualEdits } from "../../runtime/graphs/residual-edits.js";
import type { Runner } from "../../runtime/graphs/runner.js";
import type { AttachedSaes } from "../../runtime/saes/attached-saes.js";
import { withRow } from "./golden-text.js";

/** Logits of a text with a feature of every attached SAE clamped: its first half prefilled, its second half decoded. */
export function editedLogits(
  runner: Runner,
  geometry: LambdaGeometry,
  saes: AttachedSaes,
  ids: readonly number[],
): Float32Array {
  const edits = residualEdits(
    saes.cards.map(({ id }) => ({ sae: id, feature: 7, op: "clamp", value: 4, from: "kept" })),
    (id) => saes.editable(id),
  );
  return withRow(runner, geometry, (cache, row) => {
    const half = ids.length >> 1;
    const prompt = ids.slice(0, half);
    const parts = [runner.prefill(cache, row, prompt, [...prompt.keys()], { edits })];
    for (const id of ids.slice(half)) parts.push(runner.decode(cache, row, [id], { edits: [edits] }).slice());
    return Float32Array.from(parts.flatMap((part) => [...part]));
  });
}
