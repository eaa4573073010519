import type { HookName } from "../../models/hooks.js";
import type { ResidualPatches, RowPatches } from "../../runtime/graphs/residual-patches.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";
import type { LabModel } from "../model/lab-model.js";

/**
 * Contexts of one length that are run together, and which of their tokens are counted: all but the first `skipStart` of
 * each. What is not counted is neither spliced nor ablated: it keeps the residual that comes in.
 */
export class CountedContexts {
  /** Counted rows of the run, and all. */
  readonly #rows: readonly number[];
  readonly #all: readonly number[];
  readonly #wanted: readonly number[];

  constructor(
    private readonly model: LabModel,
    readonly contexts: readonly ArrayLike<number>[],
    skipStart: number,
  ) {
    const length = contexts[0]?.length ?? 0;
    this.#wanted = Array.from({ length: Math.max(0, length - skipStart) }, (_, i) => skipStart + i);
    this.#rows = contexts.flatMap((_, context) => this.#wanted.map((token) => context * length + token));
    this.#all = Array.from({ length: contexts.length * length }, (_, row) => row);
  }

  /** Counted tokens of all contexts. */
  get tokens(): number {
    return this.#rows.length;
  }

  /** Logits of the counted tokens [counted, vocab] of each context. @param residuals is given what hooks hold at all tokens */
  run({ patches, residuals }: { readonly patches?: ResidualPatches; readonly residuals?: Residuals }): Float32Array[] {
    const wanted = this.#wanted;
    return this.model.run(this.contexts, { wanted, ...(patches && { patches }), ...(residuals && { residuals }) });
  }

  /** The same with one place patched. */
  runWith(hook: HookName, patches: RowPatches): Float32Array[] {
    return this.run({ patches: new Map([[hook, patches]]) });
  }

  /** What a hook holds at the counted tokens, [tokens, width]. */
  counted(residuals: Residuals, hook: HookName): Float32Array {
    const all = residuals.get(hook);
    if (all === undefined) throw new RangeError(`${hook} was not read`);
    const width = all.length / this.#all.length;
    const values = new Float32Array(this.tokens * width);
    for (const [i, row] of this.#rows.entries()) values.set(all.subarray(row * width, (row + 1) * width), i * width);
    return values;
  }

  /** The counted tokens set to values [tokens, width]. */
  splice(values: Float32Array): RowPatches {
    return { rows: this.#rows, values };
  }

  /** The counted tokens set to one vector, or all tokens. */
  ablate(vector: ArrayLike<number>, everywhere = false): RowPatches {
    const rows = everywhere ? this.#all : this.#rows;
    const values = new Float32Array(rows.length * vector.length);
    for (let i = 0; i < rows.length; i++) values.set(vector, i * vector.length);
    return { rows, values };
  }
}
