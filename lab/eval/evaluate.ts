import { type HookName, otherName } from "../../models/hooks.js";
import { SetupError } from "../../runtime/contract/errors.js";
import type { RowPatches } from "../../runtime/graphs/residual-patches.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";
import type { LabModel } from "../model/lab-model.js";
import type { LabSae } from "../model/open-saes.js";
import { CountedContexts } from "./counted-contexts.js";
import { type Ablated, type AllLayers, type Evaluation, recovered, type SaeEvaluation } from "./evaluation.js";
import { CleanPredictions, type Losses } from "./next-token-losses.js";
import { PlaceSums } from "./place-sums.js";
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

/** The contexts of a text, each at most as long as the model's longest; they are read twice. */
export type ContextSource = () => AsyncIterable<ArrayLike<number>>;

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

interface Listeners {
  readonly onContexts?: (contexts: EvaluatedContexts) => void;
  /** Of all the work. */
  readonly onProgress?: (share: number) => void;
}

const CONTEXTS_AT_ONCE = 8;
/** Logits of contexts that are run together. */
const LOGIT_BYTES = 128 << 20;

/**
 * Judges SAEs of a model on a text. All sums are taken over counted tokens in float64; memory does not grow with their number
 * but for a few numbers of each context.
 * @throws SetupError where no token is counted, a value is no number, or two SAEs of `together` have one place
 */
export async function evaluate(
  model: LabModel,
  saes: readonly LabSae[],
  contexts: ContextSource,
  settings: EvaluationSettings,
  listeners: Listeners = {},
): Promise<Evaluation> {
  const evaluator = new Evaluator(model, saes, settings, listeners);
  for await (const batch of batches(contexts(), evaluator)) evaluator.splice(batch);
  evaluator.beginAgain();
  for await (const batch of batches(contexts(), evaluator)) evaluator.setToMeans(batch);
  return evaluator.result;
}

class Evaluator {
  readonly #places: ReadonlyMap<HookName, PlaceSums>;
  readonly #saes: readonly SaeSums[];
  /** Those that are spliced in one pass, in the order of the layers. */
  readonly #inOrder: readonly { readonly sae: LabSae; readonly sums: ReconstructionSums }[];
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
    private readonly listeners: Listeners,
  ) {
    this.#saes = saes.map((sae) => new SaeSums(sae));
    this.#places = new Map(
      saes.map(({ hook, compiled }) => [placeOf(hook), new PlaceSums(hook, compiled.description.dIn)]),
    );
    const together = settings.together ?? [];
    const twice = together.find(({ hook }, i) =>
      together.some((other, j) => j < i && placeOf(other.hook) === placeOf(hook)),
    );
    if (twice) throw new SetupError(`all layers at once take one SAE of each place, and ${twice.hook} has two`);
    const order = ({ hook }: LabSae) => model.compiled.hooks.indexOf(placeOf(hook));
    this.#inOrder = together
      .toSorted((a, b) => order(a) - order(b))
      .map((sae) => ({ sae, sums: new ReconstructionSums(sae.compiled.description.dIn) }));
  }

  /** Contexts of `length` tokens that are run together. */
  atOnce(length: number): number {
    const bytes = 4 * length * this.model.compiled.shape.vocabSize;
    return Math.max(1, Math.min(this.settings.contextsAtOnce ?? CONTEXTS_AT_ONCE, Math.floor(LOGIT_BYTES / bytes)));
  }

  /** Before the text is read from its beginning again. @throws SetupError where nothing was counted */
  beginAgain(): void {
    if (this.tokens > 0) {
      this.tokens = 0;
      return;
    }
    const { skipStart } = this.settings;
    throw new SetupError(
      `the text is too short: no context of it has a token behind the first ${skipStart}, which are not counted`,
    );
  }

  /** The first pass: everything but what needs the mean of all tokens. */
  splice(ids: readonly ArrayLike<number>[]): void {
    const { model } = this;
    const batch = new CountedContexts(model, ids, this.settings.skipStart);
    const contexts = ids.length;
    const residuals: Residuals = new Map();
    const clean = this.#predict(batch, residuals);
    this.#clean.add(clean.ce, contexts);
    for (const place of this.#places.values()) place.ablate(batch, clean, residuals);
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
    for (const place of this.#places.values()) place.setToMean(batch, clean);
    this.#count(batch.tokens);
  }

  get result(): Evaluation {
    const clean = { ce: this.#clean.mean, byContext: this.#clean.byContext };
    const { skipStart } = this.settings;
    return {
      ...{ skipStart, clean, contexts: this.#contexts, tokens: this.tokens, predicted: this.#clean.count },
      saes: this.#saes.map((sums) => this.#evaluation(sums)),
      means: new Map([...this.#places].map(([hook, place]) => [hook, place.mean])),
      allLayers: this.#allLayers,
    };
  }

  #evaluation(sums: SaeSums): SaeEvaluation {
    const { sae, reconstruction, features, epsLbo, zf, losses, byContext } = sums;
    const ablated = this.#ablated(sae);
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
      // What is done to a place is overwritten by the next, and tokens that are not counted see none that are: with all places
      // ablated it is the last one that counts.
      spliced: recovered(this.#all.result, this.#ablated(last.sae), this.#clean.mean),
      inside: this.#inOrder.map(({ sae, sums }) => ({ sae, reconstruction: sums.result })),
    };
  }

  #ablated({ hook }: LabSae): Ablated {
    const place = this.#places.get(placeOf(hook));
    if (place === undefined) throw new RangeError(`${hook} is no place that was judged`);
    return place.result;
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

/** The one name of a place that has two. */
function placeOf(hook: HookName): HookName {
  const other = otherName(hook);
  return other !== null && hook.endsWith("resid_pre") ? other : hook;
}

/** Neighbouring contexts of one length that have a counted token, until that is enough. */
async function* batches(
  contexts: AsyncIterable<ArrayLike<number>>,
  evaluator: Evaluator,
): AsyncGenerator<readonly ArrayLike<number>[]> {
  const { skipStart, tokens } = evaluator.settings;
  let batch: ArrayLike<number>[] = [];
  let counted = 0;
  for await (const ids of contexts) {
    if (ids.length <= skipStart) continue;
    const length = batch[0]?.length ?? ids.length;
    if (ids.length !== length || batch.length === evaluator.atOnce(length)) {
      yield batch;
      batch = [];
    }
    batch.push(ids);
    counted += ids.length - skipStart;
    if (counted >= tokens) break;
  }
  if (batch.length > 0) yield batch;
}
