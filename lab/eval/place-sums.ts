import type { HookName } from "../../models/hooks.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";
import { VarianceSum } from "../../runtime/saes/variance-sum.js";
import type { CountedContexts } from "./counted-contexts.js";
import type { Ablated } from "./evaluation.js";
import type { CleanPredictions } from "./next-token-losses.js";
import { LossMeans } from "./token-means.js";

/** What is added up of a place of the model, whichever SAEs it has: its mean, and what it costs to ablate it. */
export class PlaceSums {
  readonly #zero = new LossMeans();
  readonly #mean = new LossMeans();
  readonly #zeroEverywhere = new LossMeans();
  readonly #variance: VarianceSum;

  constructor(
    readonly hook: HookName,
    private readonly width: number,
  ) {
    this.#variance = new VarianceSum(width);
  }

  /** [width] */
  get mean(): Float64Array {
    return this.#variance.mean;
  }

  /** Sets the place to zeros. @param residuals of the clean run */
  ablate(batch: CountedContexts, clean: CleanPredictions, residuals: Residuals): void {
    const contexts = batch.contexts.length;
    const zeros = new Float64Array(this.width);
    this.#variance.add(batch.counted(residuals, this.hook));
    this.#zero.add(clean.compare(batch.runWith(this.hook, batch.ablate(zeros))), contexts);
    this.#zeroEverywhere.add(clean.compare(batch.runWith(this.hook, batch.ablate(zeros, true))), contexts);
  }

  /** Sets the place to its mean, once that is known. */
  setToMean(batch: CountedContexts, clean: CleanPredictions): void {
    this.#mean.add(clean.compare(batch.runWith(this.hook, batch.ablate(this.mean))), batch.contexts.length);
  }

  get result(): Ablated {
    return { zero: this.#zero.result, mean: this.#mean.result, zeroEverywhere: this.#zeroEverywhere.result };
  }
}
