import type { LabModel } from "../model/lab-model.js";
import type { LabSae } from "../model/open-saes.js";
import type { Evaluation } from "./evaluation.js";
import { type EvaluationListeners, type EvaluationSettings, Evaluator } from "./evaluator.js";

/** The contexts of a text, each at most as long as the model's longest; they are read twice. */
export type ContextSource = () => AsyncIterable<ArrayLike<number>>;

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
  listeners: EvaluationListeners = {},
): Promise<Evaluation> {
  const evaluator = new Evaluator(model, saes, settings, listeners);
  for await (const batch of batches(contexts(), evaluator)) {
    evaluator.splice(batch);
    await eventLoop();
  }
  evaluator.beginAgain();
  for await (const batch of batches(contexts(), evaluator)) {
    evaluator.setToMeans(batch);
    await eventLoop();
  }
  return evaluator.result;
}

/** Views of native memory are only let go of in a turn of the event loop, which a text that is in memory would never give. */
const eventLoop = (): Promise<void> => new Promise(setImmediate);

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
