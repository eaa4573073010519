import type { PatchInputs } from "../../models/graph-interface.js";
import { type HookName, otherName } from "../../models/hooks.js";
import type { GraphTensors } from "./graph-tensors.js";

/** What rows at a hook are set to. */
export interface RowPatches {
  /** Rows of what the hook holds, [rows, width] of it. */
  readonly rows: ArrayLike<number>;
  /** [rows, width] */
  readonly values: Float32Array;
}

/** What is set where; two names of one place are one place. */
export type ResidualPatches = ReadonlyMap<HookName, RowPatches>;

/** @throws RangeError naming the hook, where a row is not among `rows` or comes twice, or values do not fit or are no numbers */
export function checkPatches(patches: ResidualPatches, rows: number, width: number): void {
  const places = new Map<HookName, Set<number>>();
  for (const [hook, { rows: patched, values }] of patches) {
    const other = otherName(hook);
    const seen = places.get(hook) ?? new Set();
    for (const name of other === null ? [hook] : [hook, other]) places.set(name, seen);
    if (values.length !== patched.length * width)
      throw new RangeError(`patches at ${hook}: ${patched.length} rows of ${width} are not ${values.length} values`);
    for (let i = 0; i < patched.length; i++) {
      const row = patched[i]!;
      if (!(Number.isInteger(row) && row >= 0 && row < rows))
        throw new RangeError(`patches at ${hook}: there is no row ${row} among ${rows}`);
      if (seen.has(row)) throw new RangeError(`patches at ${hook}: row ${row} is set twice`);
      seen.add(row);
    }
    const wrong = values.findIndex((value) => !Number.isFinite(value));
    if (wrong >= 0)
      throw new RangeError(`patches at ${hook}: row ${patched[Math.floor(wrong / width)]} is set to ${values[wrong]}`);
  }
}

/**
 * Binds the patch inputs of a run over rows of a batch that each have patches or none, whose rows are tokens there.
 * @throws RangeError where the graph has no such hook
 */
export function bindPatches(
  tensors: GraphTensors,
  inputs: readonly PatchInputs[],
  runs: readonly (ResidualPatches | null)[],
): void {
  const names = new Map<string, Set<HookName>>();
  for (const { at, hook } of inputs) names.set(at, (names.get(at) ?? new Set()).add(hook).add(otherName(hook) ?? hook));
  const known = new Set([...names.values()].flatMap((hooks) => [...hooks]));
  const stranger = runs.flatMap((run) => [...(run?.keys() ?? [])]).find((hook) => !known.has(hook));
  if (stranger !== undefined) throw new RangeError(`nothing can be patched at ${stranger}: it is not tapped`);
  for (const { at, factor, offset, count } of new Map(inputs.map((each) => [each.at, each])).values()) {
    const own = [...(names.get(at) ?? [])];
    const patched = runs.flatMap((run, batchRow) =>
      own.flatMap((hook) => {
        const patches = run?.get(hook);
        return patches === undefined ? [] : [{ batchRow, ...patches }];
      }),
    );
    tensors.sizes.set(
      count,
      patched.reduce((sum, { rows }) => sum + rows.length, 0),
    );
    // A vector that is set is multiplied by 0.
    tensors.once(factor);
    const [places, values] = [tensors.once(at), tensors.once(offset)];
    let [placed, written] = [0, 0];
    for (const { batchRow, rows, values: own } of patched) {
      places.write(
        Array.from(rows).flatMap((token) => [batchRow, token]),
        placed,
      );
      values.write(own, written);
      placed += 2 * rows.length;
      written += own.length;
    }
  }
}
