import { SetupError } from "../../runtime/contract/errors.js";
import type { CodedRows } from "../../runtime/saes/sae-coder.js";
import type { LabSae } from "../model/open-saes.js";
import { EpsLboSums } from "./eps-lbo.js";
import { FeatureCounts } from "./feature-counts.js";
import type { Losses } from "./next-token-losses.js";
import { ReconstructionSums } from "./reconstruction.js";
import { type TokenFigures, tokenFigures } from "./token-figures.js";
import { LossMeans, TokenMeans } from "./token-means.js";
import { ZfPoints } from "./zf-plot.js";

/** Some counted tokens as an SAE sees them. */
export interface CodedTokens {
  /** [tokens, d] */
  readonly x: Float32Array;
  readonly codes: CodedRows;
  readonly figures: TokenFigures;
}

/** @throws SetupError where the residuals or what is made of them are no numbers */
export function codeTokens({ id, hook, coder }: LabSae, x: Float32Array): CodedTokens {
  const codes = coder.code(x);
  if (!codes.norms.every(Number.isFinite)) throw new SetupError(`${hook} holds a number that is not finite`);
  if (!codes.reconstruction.every(Number.isFinite))
    throw new SetupError(`${id} makes values of ${hook} that are no numbers`);
  return { x, codes, figures: tokenFigures(x, codes, coder.sae.description) };
}

/** All that is added up of one SAE. */
export class SaeSums {
  readonly reconstruction: ReconstructionSums;
  readonly features: FeatureCounts;
  readonly epsLbo = new EpsLboSums();
  readonly zf = new ZfPoints();
  readonly losses = new LossMeans();
  readonly #means = { squares: new TokenMeans(), l0: new TokenMeans(), cosine: new TokenMeans() };

  constructor(readonly sae: LabSae) {
    const { dIn, dSae } = sae.compiled.description;
    this.reconstruction = new ReconstructionSums(dIn);
    this.features = new FeatureCounts(dSae);
  }

  /** @param contexts that the tokens are of, `first` the number of the first of them */
  add({ x, codes, figures }: CodedTokens, losses: Losses, contexts: number, first: number): void {
    const each = figures.tokens / contexts;
    this.reconstruction.add(x, codes, figures);
    this.features.add(codes, (row) => first + Math.floor(row / each));
    this.epsLbo.add(figures.epsLbo);
    this.zf.add(figures);
    this.losses.add(losses, contexts);
    this.#means.squares.add(figures.errors, contexts);
    this.#means.l0.add(figures.l0, contexts);
    this.#means.cosine.add(figures.cosines, contexts);
  }

  /** Means over the counted tokens of each context. */
  get byContext(): { readonly mse: number[]; readonly l0: number[]; readonly cosine: number[] } {
    const { squares, l0, cosine } = this.#means;
    const { dIn } = this.sae.compiled.description;
    return { mse: squares.byContext.map((sum) => sum / dIn), l0: l0.byContext, cosine: cosine.byContext };
  }
}
