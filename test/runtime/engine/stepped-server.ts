import { compileModel } from "../../../models/compile.js";
import type { LambdaCache } from "../../../runtime/cache/lambda-cache.js";
import { modelIdentity } from "../../../runtime/cache/model-identity.js";
import { restoreRow } from "../../../runtime/cache/row-snapshot.js";
import type { GenerationEvent, LambdaOptions, SequenceRequest } from "../../../runtime/contract/generation.js";
import { Sequence, type SequenceContext } from "../../../runtime/engine/sequence.js";
import { readSequence, type SnapshotReader, saveSequence } from "../../../runtime/engine/sequence-snapshot.js";
import { firstState, type SequenceState } from "../../../runtime/engine/sequence-state.js";
import { residualEdits } from "../../../runtime/graphs/residual-edits.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import type { Residuals } from "../../../runtime/graphs/tap-outputs.js";
import { AttachedSaes } from "../../../runtime/saes/attached-saes.js";
import { Candidates } from "../../../runtime/sampling/candidates.js";
import { openEmbedded } from "../../models/tokenizer/opened.js";
import { CARD } from "../../server/scripted-engine.js";
import { sequenceRequest } from "./requests.js";

const EMBEDDED = "models/default";
const WINDOW = 32;
const SINKS = 4;
/** Prompt tokens of a step. */
const CHUNK = 8;
/** Tokens that `mode: full` has memory for. */
const FULL_LENGTH = 200;

/** A text that is being generated, and its row. */
export interface RunningText {
  readonly sequence: Sequence;
  readonly cache: LambdaCache;
  readonly row: number;
}

/** The embedded model, whose texts take their steps when a test says so. */
export class SteppedServer implements Disposable {
  private constructor(
    readonly reader: SnapshotReader,
    private readonly runner: Runner,
    private readonly saes: AttachedSaes,
    private readonly context: Omit<SequenceContext, "window" | "maxLength">,
  ) {}

  static async open(cacheRoot: string): Promise<SteppedServer> {
    const model = await compileModel({ path: EMBEDDED, precision: "f32", cacheRoot });
    const places = { threads: 1, spin: false };
    const choice = { folders: undefined, precision: "f32", anyModel: false } as const;
    const saes = await AttachedSaes.attach({
      choice,
      model,
      folder: EMBEDDED,
      names: ["default"],
      cacheRoot,
      ...places,
    });
    const runner = new Runner(model, { window: WINDOW, ...places, taps: saes.hooks, cuttingSaes: saes.cutting });
    const { shape } = model;
    const { vocabSize, layers, eosTokenIds } = shape;
    const card = {
      ...CARD,
      id: "embedded",
      vocabSize,
      layers,
      window: WINDOW,
      sinks: SINKS,
      eosTokenIds,
      saes: saes.cards,
    };
    const identity = { model: modelIdentity(model, WINDOW), saes: saes.contents };
    const { tokens } = await openEmbedded();
    const context = { eosTokenIds, tokens, candidates: new Candidates(vocabSize) };
    return new SteppedServer({ ...identity, shape, card, fullLength: FULL_LENGTH }, runner, saes, context);
  }

  begin(asked: Partial<SequenceRequest>): RunningText {
    const { prompt, ...whole } = sequenceRequest(asked);
    const { window, sinks } = this.#geometry(whole.lambda);
    const cache = this.runner.openCache({ window, sinks });
    const row = cache.allocate();
    const state = firstState({ ...whole, prompt: Int32Array.from(prompt) }, this.#context(window));
    return { sequence: this.#sequence(state, window), cache, row };
  }

  save({ sequence, cache, row }: RunningText): Uint8Array {
    return saveSequence(sequence, cache, row, this.reader);
  }

  /** In a cache that another text has a row of. */
  restore(bytes: Uint8Array): RunningText {
    const { state, row: stored } = readSequence(bytes, this.reader);
    const cache = this.runner.openCache(stored);
    cache.allocate();
    return { sequence: this.#sequence(state, stored.window), cache, row: restoreRow(cache, stored) };
  }

  /** A chunk of the prompt, or the next token. */
  step(text: RunningText): GenerationEvent[] {
    const { sequence } = text;
    return sequence.prefilled < sequence.prefillLength ? this.#prefill(text) : this.#decode(text);
  }

  close({ cache }: RunningText): void {
    this.runner.closeCache(cache);
  }

  [Symbol.dispose](): void {
    this.runner[Symbol.dispose]();
    this.saes[Symbol.dispose]();
  }

  #prefill({ sequence, cache, row }: RunningText): GenerationEvent[] {
    const { features, promptLogprobs } = sequence.asked;
    const start = sequence.prefilled;
    const ids = sequence.promptIds(start, Math.min(start + CHUNK, sequence.prefillLength));
    const wanted = promptLogprobs === null ? [] : [...ids.keys()];
    const residuals: Residuals = new Map();
    const logits = this.runner.prefill(cache, row, ids, wanted, { edits: sequence.promptEdits, residuals });
    const readings = features?.prompt === true ? this.saes.read(features, residuals) : [];
    sequence.prefilled += ids.length;
    const logprobs = wanted.length > 0 ? [sequence.promptEvent(start, logits, this.reader.shape.vocabSize)] : [];
    return [...logprobs, ...sequence.promptFeatures(start, readings)];
  }

  #decode({ sequence, cache, row }: RunningText): GenerationEvent[] {
    const { features } = sequence.asked;
    const residuals: Residuals = new Map();
    const logits = this.runner.decode(cache, row, [sequence.lastToken], { edits: [sequence.edits], residuals });
    const isRead = features !== null && sequence.readsNext;
    const released = isRead ? this.saes.read(features, residuals).flatMap((each) => sequence.release(each)) : [];
    return sequence.ended ? released : [...released, ...sequence.accept(logits)];
  }

  #sequence(state: SequenceState, window: number): Sequence {
    const { edits } = state.asked;
    const own = edits.length === 0 ? null : residualEdits(edits, (sae) => this.saes.editable(sae));
    return new Sequence(0, 0, state, own, this.#context(window));
  }

  #context(window: number): SequenceContext {
    return { ...this.context, window, maxLength: Number.POSITIVE_INFINITY };
  }

  #geometry({ window, sinks, mode }: LambdaOptions) {
    if (mode === "full") return { window: Number.POSITIVE_INFINITY, sinks: 0 };
    return { window: window ?? WINDOW, sinks: sinks ?? SINKS };
  }
}

/** What the rest of a text gives. */
export function finish(server: SteppedServer, text: RunningText): GenerationEvent[] {
  const events: GenerationEvent[] = [];
  while (!text.sequence.ended) events.push(...server.step(text));
  server.close(text);
  return events;
}
