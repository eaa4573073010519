import { type HookName, otherName } from "../../models/hooks.js";
import type { ResidualPatches } from "../../runtime/graphs/residual-patches.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";
import { VarianceSum } from "../../runtime/saes/variance-sum.js";
import type { LabSae } from "../model/open-saes.js";
import type { CountedContexts } from "./counted-contexts.js";
import type { Ablated } from "./evaluation.js";
import type { CleanPredictions } from "./next-token-losses.js";
import { LossMeans } from "./token-means.js";

/** The one name of a place that has two. */
export function placeOf(hook: HookName): HookName {
  const other = otherName(hook);
  return other !== null && hook.endsWith("resid_pre") ? other : hook;
}

/** Whether a hook holds the residual stream, and not what is added to it. */
export const isWholeStream = (hook: HookName): boolean => hook.includes("hook_resid");

/** What it costs the model that places, which SAEs stand at, are ablated, all of them together. */
export class AblationSums {
  readonly #zero = new LossMeans();
  readonly #mean = new LossMeans();
  readonly #zeroEverywhere = new LossMeans();
  readonly #variances: ReadonlyMap<HookName, VarianceSum>;

  constructor(saes: readonly Pick<LabSae, "hook" | "compiled">[]) {
    this.#variances = new Map(saes.map(({ hook, compiled }) => [hook, new VarianceSum(compiled.description.dIn)]));
  }

  /** The mean vector [d] of the counted tokens of each place, by the one name of it. */
  get means(): ReadonlyMap<HookName, Float64Array> {
    return new Map([...this.#variances].map(([hook, { mean }]) => [placeOf(hook), mean]));
  }

  /** Sets the places to zeros. @param residuals of the clean run */
  ablate(batch: CountedContexts, clean: CleanPredictions, residuals: Residuals): void {
    for (const [hook, variance] of this.#variances) variance.add(batch.counted(residuals, hook));
    for (const [losses, everywhere] of [
      [this.#zero, false],
      [this.#zeroEverywhere, true],
    ] as const) {
      const patches = this.#patches(({ width }) => batch.ablate(new Float64Array(width), everywhere));
      losses.add(clean.compare(batch.run({ patches })), batch.contexts.length);
    }
  }

  /** Sets the places to their means, once these are known. */
  setToMean(batch: CountedContexts, clean: CleanPredictions): void {
    const patches = this.#patches(({ mean }) => batch.ablate(mean));
    this.#mean.add(clean.compare(batch.run({ patches })), batch.contexts.length);
  }

  get result(): Ablated {
    return { zero: this.#zero.result, mean: this.#mean.result, zeroEverywhere: this.#zeroEverywhere.result };
  }

  #patches(of: (place: VarianceSum) => ReturnType<CountedContexts["ablate"]>): ResidualPatches {
    return new Map([...this.#variances].map(([hook, place]) => [hook, of(place)]));
  }
}
