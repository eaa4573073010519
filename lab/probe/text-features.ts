import { InvalidRequest, SetupError } from "../../runtime/contract/errors.js";
import type { Codes } from "../../runtime/saes/sae-coder.js";
import type { LabModel } from "../model/lab-model.js";
import type { LabSae } from "../model/open-saes.js";
import { textStart } from "../model/text-start.js";
import type { LabelledText } from "./labelled-texts.js";
import type { TextFeatures } from "./sparse-probe.js";

/** Tokens of contexts that are run together. */
const TOKENS_AT_ONCE = 2048;

/** A text as the model is given it. */
interface TextRun {
  /** Its number among the texts. */
  readonly text: number;
  readonly ids: readonly number[];
  /** Tokens at the beginning that do not count: those put before the text. */
  readonly start: number;
}

export interface TextOnlookers {
  readonly onNotice?: (line: string) => void;
  /** Is told the share of the texts that is read. */
  readonly onShare?: (share: number) => void;
}

/**
 * The features of texts in each SAE: means over the tokens of a text, those before it (BOS) left out, as it is run by itself. A
 * text that is longer than the longest context is cut, which `onNotice` is told.
 * @returns by the SAE's id, [texts]
 * @throws SetupError naming the line of a text that cannot be run
 */
export async function textFeatures(
  model: LabModel,
  saes: readonly LabSae[],
  texts: readonly LabelledText[],
  { onNotice, onShare }: TextOnlookers = {},
): Promise<ReadonlyMap<string, readonly TextFeatures[]>> {
  const runs: TextRun[] = [];
  let cut = 0;
  for (const [text, labelled] of texts.entries()) {
    const { ids, start } = await idsOf(model, labelled);
    if (ids.length > model.longestContext) cut += 1;
    runs.push({ text, ids: ids.slice(0, model.longestContext), start });
  }
  if (cut > 0)
    onNotice?.(`${cut} of ${texts.length} texts are longer than ${model.longestContext} tokens, and cut there`);
  const found = new Map(saes.map(({ id }) => [id, new Array<TextFeatures>(texts.length)]));
  let done = 0;
  for (const together of alikeRuns(runs)) {
    const residuals = model.activations(together.map(({ ids }) => ids));
    for (const { id, hook, compiled, coder } of saes) {
      const codes = coder.encode(residuals.get(hook) ?? new Float32Array());
      if (!codes.norms.every(Number.isFinite))
        throw new SetupError(`${hook} of ${model.name} holds a number that is not finite`);
      for (const [i, { text, ids, start }] of together.entries())
        found.get(id)![text] = means(codes, i * ids.length + start, (i + 1) * ids.length, compiled.description.dSae);
    }
    done += together.length;
    onShare?.(done / texts.length);
    await new Promise(setImmediate);
  }
  return found;
}

async function idsOf(model: LabModel, { text, ids, place }: LabelledText): Promise<Omit<TextRun, "text">> {
  const start = textStart(model.compiled);
  if (ids !== null) {
    const stranger = ids.find((id) => id >= model.compiled.shape.vocabSize);
    if (stranger !== undefined) throw new SetupError(`${place}: ${model.name} has no token ${stranger}`);
    const begun = start.length > 0 && start.every((id, i) => ids[i] === id) ? start.length : 0;
    return counted({ ids, start: begun }, place);
  }
  if (model.encoder === null)
    throw new SetupError(`${place}: ${model.name} has no tokenizer, so texts must bring their ids`);
  try {
    return counted({ ids: [...start, ...(await model.encoder.encode(text, "text"))], start: start.length }, place);
  } catch (error) {
    if (error instanceof InvalidRequest) throw new SetupError(`${place}: ${error.message}`);
    throw error;
  }
}

function counted(run: Omit<TextRun, "text">, place: string): Omit<TextRun, "text"> {
  if (run.ids.length > run.start) return run;
  throw new SetupError(`${place}: the text has no tokens but those before it`);
}

/** Runs of one length, at most `TOKENS_AT_ONCE` tokens together. */
function alikeRuns(runs: readonly TextRun[]): TextRun[][] {
  const groups: TextRun[][] = [];
  for (const run of runs.toSorted((a, b) => a.ids.length - b.ids.length || a.text - b.text)) {
    const last = groups.at(-1);
    const length = run.ids.length;
    if (last?.[0]?.ids.length === length && (last.length + 1) * length <= TOKENS_AT_ONCE) last.push(run);
    else groups.push([run]);
  }
  return groups;
}

/** Of rows [from, to). */
function means({ starts, features, activations }: Codes, from: number, to: number, dSae: number): TextFeatures {
  const sums = new Float64Array(dSae);
  for (let at = starts[from]!; at < starts[to]!; at++) sums[features[at]!]! += activations[at]!;
  const active = Uint32Array.from(sums.keys()).filter((feature) => sums[feature] !== 0);
  return { features: active, means: Float64Array.from(active, (feature) => sums[feature]! / (to - from)) };
}
