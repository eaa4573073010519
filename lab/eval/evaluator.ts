import type { HookName } from "../../models/hooks.js";
import { SetupError } from "../../runtime/contract/errors.js";
import type { RowPatches } from "../../runtime/graphs/residual-patches.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";
import type { LabModel } from "../model/lab-model.js";
import type { LabSae } from "../model/open-saes.js";
import { AblationSums, isWholeStream, placeOf } from "./ablation-sums.js";
import { CountedContexts } from "./counted-contexts.js";
import { type AllLayers, type Evaluation, recovered, type SaeEvaluation } from "./evaluation.js";
import { CleanPredictions, type Losses } from "./next-token-losses.js";
import { ReconstructionSums } from "./reconstruction.js";
import { type CodedTokens, codeTokens, SaeSums } from "./sae-sums.js";
import { LossMeans, TokenMeans } from "./token-means.js";
import { weightFigures } from "./weight-figures.js";

export interface EvaluationSettings {
  /** Tokens at the beginning of each context that are neither spliced nor counted; 1: BOS alone. */
  readonly skipStart: number;
  /** Counted tokens that are enough: the text is read until there are as many. */
  readonly tokens: number;
  /** Those of the SAEs that are spliced in one pass, too; default: none. */
  readonly together?: readonly LabSae[];
  /** Contexts that are run together at most. */
  readonly contextsAtOnce?: number;
}

/** What each counted token of some contexts came to, for who wants more than the means. */
export interface EvaluatedContexts {
  /** Number of the first context, and how many there are. */
  readonly first: number;
  readonly contexts: number;
  readonly clean: Pick<Losses, "ce">;
  readonly saes: readonly { readonly coded: CodedTokens; readonly losses: Losses }[];
  /** null where it was not asked for. */
  readonly allLayers: Losses | null;
}

export interface EvaluationListeners {
  readonly onContexts?: (contexts: EvaluatedContexts) => void;
  /** Of all the work. */
  readonly onProgress?: (share: number) => void;
}

const CONTEXTS_AT_ONCE = 8;
/** Logits of contexts that are run together. */
const LOGIT_BYTES = 128 << 20;

/** Adds up an evaluation, some contexts at a time. */
export class Evaluator {
  readonly #places: ReadonlyMap<HookName, AblationSums>;
  readonly #saes: readonly SaeSums[];
  /** Those that are spliced in one pass, in the order of the layers. */
  readonly #inOrder: readonly { readonly sae: LabSae; readonly sums: ReconstructionSums }[];
  /** null where it is the same as to ablate the last of them alone. */
  readonly #allAblated: AblationSums | null;
  readonly #clean = new TokenMeans();
  readonly #all = new LossMeans();
  #contexts = 0;
  /** Counted tokens in this pass over the text, and in all. */
  tokens = 0;
  #done = 0;

  constructor(
    private readonly model: LabModel,
    saes: readonly LabSae[],
    readonly settings: EvaluationSettings,
    private readonly listeners: EvaluationListeners,
  ) {
    this.#saes = saes.map((sae) => new SaeSums(sae));
    this.#places = new Map(saes.map((sae) => [placeOf(sae.hook), new AblationSums([sae])]));
    const together = settings.together ?? [];
    const twice = together.find(({ hook }, i) =>
      together.some((other, j) => j < i && placeOf(other.hook) === placeOf(hook)),
    );
    if (twice) throw new SetupError(`all layers at once take one SAE of each place, and ${twice.hook} has two`);
    const order = ({ hook }: LabSae) => model.compiled.hooks.indexOf(placeOf(hook));
    this.#inOrder = together
      .toSorted((a, b) => order(a) - order(b))
      .map((sae) => ({ sae, sums: new ReconstructionSums(sae.compiled.description.dIn) }));
    // What is done to the whole stream is overwritten at the next place, and tokens that are not counted see none that are: of
    // places that are all ablated, the last one counts.
    this.#allAblated = together.every(({ hook }) => isWholeStream(hook)) ? null : new AblationSums(together);
  }

  /** Contexts of `length` tokens that are run together. */
  atOnce(length: number): number {
    const bytes = 4 * length * this.model.compiled.shape.vocabSize;
    return Math.max(1, Math.min(this.settings.contextsAtOnce ?? CONTEXTS_AT_ONCE, Math.floor(LOGIT_BYTES / bytes)));
  }

  /** Before the text is read from its beginning again. @throws SetupError where nothing was counted */
  beginAgain(): void {
    const { skipStart } = this.settings;
    if (this.#clean.count === 0)
      throw new SetupError(
        `the text is too short: no context has two tokens behind the first ${skipStart}, which are not counted`,
      );
    this.tokens = 0;
  }

  /** The first pass: everything but what needs the mean of all tokens. */
  splice(ids: readonly ArrayLike<number>[]): void {
    const { model } = this;
    const batch = new CountedContexts(model, ids, this.settings.skipStart);
    const contexts = ids.length;
    const residuals: Residuals = new Map();
    const clean = this.#predict(batch, residuals);
    this.#clean.add(clean.ce, contexts);
    for (const place of this.#ablations) place.ablate(batch, clean, residuals);
    const saes = this.#saes.map((sums) => {
      const { hook } = sums.sae;
      const coded = codeTokens(sums.sae, batch.counted(residuals, hook));
      const losses = clean.compare(batch.runWith(hook, batch.splice(coded.codes.reconstruction)));
      sums.add(coded, losses, contexts, this.#contexts);
      return { coded, losses };
    });
    const allLayers = this.#inOrder.length > 0 ? clean.compare(this.#spliceAll(batch, residuals)) : null;
    if (allLayers !== null) this.#all.add(allLayers, contexts);
    this.listeners.onContexts?.({ first: this.#contexts, contexts, clean, saes, allLayers });
    this.#contexts += contexts;
    this.#count(batch.tokens);
  }

  /** The second pass: the means are known. */
  setToMeans(ids: readonly ArrayLike<number>[]): void {
    const batch = new CountedContexts(this.model, ids, this.settings.skipStart);
    const clean = this.#predict(batch);
    for (const place of this.#ablations) place.setToMean(batch, clean);
    this.#count(batch.tokens);
  }

  get result(): Evaluation {
    const clean = { ce: this.#clean.mean, byContext: this.#clean.byContext };
    const { skipStart } = this.settings;
    return {
      ...{ skipStart, clean, contexts: this.#contexts, tokens: this.tokens, predicted: this.#clean.count },
      saes: this.#saes.map((sums) => this.#evaluation(sums)),
      means: new Map([...this.#places.values()].flatMap((place) => [...place.means])),
      allLayers: this.#allLayers,
    };
  }

  #evaluation(sums: SaeSums): SaeEvaluation {
    const { sae, reconstruction, features, epsLbo, zf, losses, byContext } = sums;
    const ablated = this.#place(sae).result;
    return {
      ...{ sae, ablated, byContext },
      reconstruction: reconstruction.result,
      features: features.result,
      weights: weightFigures(sae.compiled, { threads: this.model.threads }),
      epsLbo: epsLbo.result,
      zf: zf.result,
      spliced: recovered(losses.result, ablated, this.#clean.mean),
    };
  }

  get #allLayers(): AllLayers | null {
    const last = this.#inOrder.at(-1);
    if (last === undefined) return null;
    return {
      spliced: recovered(this.#all.result, (this.#allAblated ?? this.#place(last.sae)).result, this.#clean.mean),
      inside: this.#inOrder.map(({ sae, sums }) => ({ sae, reconstruction: sums.result })),
    };
  }

  #place({ hook }: LabSae): AblationSums {
    const place = this.#places.get(placeOf(hook));
    if (place === undefined) throw new RangeError(`${hook} is no place that is judged`);
    return place;
  }

  get #ablations(): AblationSums[] {
    return [...this.#places.values(), ...(this.#allAblated === null ? [] : [this.#allAblated])];
  }

  /** Logits with every SAE spliced; each codes what those before it have left. */
  #spliceAll(batch: CountedContexts, clean: Residuals): Float32Array[] {
    const patches = new Map<HookName, RowPatches>();
    let residuals = clean;
    let logits: Float32Array[] = [];
    for (const { sae, sums } of this.#inOrder) {
      const { x, codes, figures } = codeTokens(sae, batch.counted(residuals, sae.hook));
      sums.add(x, codes, figures);
      patches.set(sae.hook, batch.splice(codes.reconstruction));
      residuals = new Map();
      logits = batch.run({ patches, residuals });
    }
    return logits;
  }

  #predict(batch: CountedContexts, residuals?: Residuals): CleanPredictions {
    const { vocabSize } = this.model.compiled.shape;
    const clean = new CleanPredictions(batch.run(residuals ? { residuals } : {}), vocabSize, batch.contexts);
    if (clean.ce.some(Number.isNaN)) throw new SetupError(`${this.model.name} predicts what is no number`);
    return clean;
  }

  #count(tokens: number): void {
    this.tokens += tokens;
    this.#done += Math.min(tokens, this.settings.tokens);
    this.listeners.onProgress?.(Math.min(1, this.#done / (2 * this.settings.tokens)));
  }
}
