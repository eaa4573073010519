import { z } from "zod";
import type { ModelShape } from "../../models/model-shape.js";
import type { LambdaCache } from "../cache/lambda-cache.js";
import type { ModelIdentity } from "../cache/model-identity.js";
import { readRow, type StoredRow, saveRow } from "../cache/row-snapshot.js";
import { headerPart } from "../cache/snapshot.js";
import { InvalidRequest, SnapshotError } from "../contract/errors.js";
import type { ModelCard } from "../contract/generation.js";
import { admit } from "./admission.js";
import type { Sequence } from "./sequence.js";
import type { AskedSequence, SequenceState } from "./sequence-state.js";
import { storedSequence } from "./stored-sequence.js";

/** What has computed a sequence. */
export interface SnapshotSource {
  readonly model: ModelIdentity;
  /** sha256 (hex) of each attached SAE, by id. */
  readonly saes: ReadonlyMap<string, string>;
}

/** Where a sequence is to go on. */
export interface SnapshotReader extends SnapshotSource {
  readonly shape: ModelShape;
  readonly card: ModelCard;
  /** Tokens that `mode: full` has memory for. */
  readonly fullLength: number;
}

/** A sequence that has been read: its row goes into a cache of the row's geometry (`restoreRow`). */
export interface StoredSequence {
  readonly state: SequenceState;
  readonly row: StoredRow;
}

/**
 * A sequence between two steps as bytes, with all that another engine needs to go on with it: its row, where it stands, and
 * what it asks for. Of its prompt only the tokens are stored that are still to be read, so that a text of any length takes
 * as many bytes as its window.
 * @throws SnapshotError where it has ended, or where its row is not all that it has computed.
 */
export function saveSequence(
  sequence: Sequence,
  cache: LambdaCache,
  row: number,
  { model, saes }: SnapshotSource,
): Uint8Array<ArrayBuffer> {
  if (sequence.ended) throw refused("the text has ended, so that there is nothing to go on with");
  if (sequence.asked.lambda.retrieve !== undefined)
    throw refused("the text retrieves: it keeps every key that it has had, and a snapshot holds those of its window");
  const used = new Map(saesOf(sequence.asked).map((id) => [id, saes.get(id) ?? ""]));
  return saveRow(cache, row, model, { sequence: sequence.state(), saes: Object.fromEntries(used) });
}

/**
 * Reads what `saveSequence` gave, and checks that it can go on here. Nothing is allocated.
 * @throws SnapshotError where it is something else, is not of this model, or asks for what is not served here.
 */
export function readSequence(bytes: Uint8Array, reader: SnapshotReader): StoredSequence {
  const { model, shape, card, fullLength } = reader;
  const row = readRow(bytes, model, shape);
  const { sequence: state, saes } = headerPart(stored(shape.vocabSize), row.more);
  const seen = state.generated === 0 ? state.prefilled : state.promptLength + state.generated - 1;
  if (row.count !== seen)
    throw new SnapshotError("damaged", `the snapshot's row has ${row.count} tokens, and its sequence ${seen}`);
  checkGeometry(row, state, card, fullLength);
  for (const id of saesOf(state.asked))
    if (reader.saes.has(id) && reader.saes.get(id) !== saes[id])
      throw new SnapshotError(
        "model",
        `the snapshot's text is read or edited with an SAE ${id} that is another one here`,
      );
  try {
    admit([{ ...state.asked, prompt: Int32Array.of(state.lastToken) }], card, fullLength);
  } catch (error) {
    if (!(error instanceof InvalidRequest)) throw error;
    throw refused(`the snapshot's request is not served here: ${error.param}: ${error.message}`);
  }
  return { state, row };
}

function checkGeometry({ window, sinks, count }: StoredRow, state: SequenceState, card: ModelCard, fullLength: number) {
  const { lambda } = state.asked;
  const isFull = lambda.mode === "full";
  const geometry = (problem: string) => new SnapshotError("geometry", `the snapshot ${problem}`);
  if (isFull !== (window === Number.POSITIVE_INFINITY) || (lambda.window ?? window) !== window)
    throw new SnapshotError("damaged", "the snapshot's row has not the window that its request asks for");
  if (isFull && count >= fullLength)
    throw geometry(`has ${count} tokens in mode full, and this machine has memory for ${fullLength}`);
  if (!isFull && window > card.window)
    throw geometry(`has a window of ${window}, and ${card.id} is served with ${card.window}`);
  if (sinks !== 0 && sinks !== card.sinks)
    throw geometry(`has ${sinks} starting tokens, and ${card.id} is served with ${card.sinks}`);
}

const stored = (vocabSize: number) =>
  z.object({ sequence: storedSequence(vocabSize), saes: z.record(z.string(), z.string()) });

/** Ids of the SAEs that a sequence is read or edited with. */
const saesOf = ({ features, edits }: AskedSequence): string[] => [
  ...(features?.saes ?? []),
  ...edits.map(({ sae }) => sae),
];

const refused = (message: string): SnapshotError => new SnapshotError("request", message);
