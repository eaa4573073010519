import { type HookName, hookHeads, hookWidth } from "../../models/hooks.js";
import { SetupError } from "../../runtime/contract/errors.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";
import type { LabModel } from "../model/lab-model.js";

/** What of a hook is read: all that it holds at a token, or the part of one head. */
export class HookColumns {
  /** Numbers of each token. */
  readonly width: number;
  readonly #first: number;
  readonly #whole: number;

  /** @throws SetupError where the hook has no heads, or not so many. */
  constructor(
    { name, compiled: { shape } }: LabModel,
    readonly hook: HookName,
    readonly head: number | null = null,
  ) {
    const heads = hookHeads(hook, shape);
    if (head !== null && heads === null) throw new SetupError(`--head ${head}: ${hook} is not divided into heads`);
    if (head !== null && heads !== null && !(head >= 0 && head < heads))
      throw new SetupError(`--head ${head}: ${hook} of ${name} has heads 0 to ${heads - 1}`);
    this.#whole = hookWidth(hook, shape);
    this.width = head === null ? this.#whole : shape.headDim;
    this.#first = head === null ? 0 : head * shape.headDim;
  }

  /** [rows, width]. */
  of(residuals: Residuals): Float32Array {
    const values = residuals.get(this.hook);
    if (values === undefined) throw new RangeError(`the model was opened without ${this.hook}`);
    if (this.width === this.#whole) return values;
    const rows = values.length / this.#whole;
    const columns = new Float32Array(rows * this.width);
    for (let row = 0; row < rows; row++) {
      const start = row * this.#whole + this.#first;
      columns.set(values.subarray(start, start + this.width), row * this.width);
    }
    return columns;
  }
}

export function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return false;
  return true;
}
