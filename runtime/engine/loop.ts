import type { ActivationType } from "../../models/onnx/graph.js";
import type { TokenBytes } from "../../models/tokenizer/token-bytes.js";
import type { LambdaGeometry } from "../cache/lambda-cache.js";
import { type Retrieval, toRetrieval } from "../cache/retrieval.js";
import { DeviceLost } from "../contract/errors.js";
import type { FeatureRequest } from "../contract/features.js";
import type { GenerationEvent, GenerationFault, LambdaOptions, SequenceRequest } from "../contract/generation.js";
import { comparisons, residualEdits } from "../graphs/residual-edits.js";
import type { Runner } from "../graphs/runner.js";
import { type Residuals, runTapped, type TapRows } from "../graphs/tap-outputs.js";
import { gpuFailure } from "../ort/gpu-failure.js";
import { OrtError } from "../ort/library.js";
import type { AttachedSaes } from "../saes/attached-saes.js";
import { Candidates } from "../sampling/candidates.js";
import { NoTokenLeft, NotFiniteLogits } from "../sampling/finite-logits.js";
import { CachePool } from "./cache-pool.js";
import { ChunkSize } from "./chunk-size.js";
import { eventCredit } from "./event-credit.js";
import { Scheduler } from "./scheduler.js";
import { Sequence } from "./sequence.js";
import { firstState } from "./sequence-state.js";

/** Credit (`eventCredit`) that a reader may be behind before its sequences wait. */
const CREDIT = 128;
/** Logits that a chunk may return at once, for log-probabilities of the prompt. */
const PROMPT_LOGITS = 1 << 22;
/** Numbers that a chunk may compute at once to see which edited features are kept. */
const COMPARISONS = 1 << 22;
/** Scores that a chunk's mask may have; only `mode: full` comes near. */
const MASK_SCORES = 1 << 24;

export interface EngineLoopOptions extends LambdaGeometry {
  readonly parallel: number;
  readonly stallTimeoutMs: number;
  readonly eosTokenIds: readonly number[];
  readonly tokens: TokenBytes | null;
  /** Longest text in `mode: full`, whose cache grows with it. */
  readonly fullLength: number;
  readonly saes: AttachedSaes;
}

/** A request that is being answered. */
interface Request {
  readonly sequences: Set<Scheduled>;
  /** Credit of the events sent and not yet read. */
  ahead: number;
  pausedAt: number | null;
}

/** A sequence that runs or waits. What it computes with is made at its first turn: thousands may wait. */
class Scheduled {
  paused = false;
  /** null before its first turn. */
  started: Sequence | null = null;

  constructor(
    /** Number of the request, and of the sequence in it. */
    readonly request: number,
    readonly index: number,
    readonly geometry: LambdaGeometry,
    readonly retrieval: Retrieval | null,
    private readonly start: () => Sequence,
  ) {}

  get sequence(): Sequence {
    this.started ??= this.start();
    return this.started;
  }
}

/** The engine's loop, on the thread that owns ONNX Runtime: each step gives one sequence one turn and sends its events. */
export class EngineLoop implements Disposable {
  readonly #requests = new Map<number, Request>();
  readonly #scheduler: Scheduler<Scheduled>;
  readonly #caches: CachePool;
  readonly #candidates: Candidates;
  readonly #chunks: ChunkSize;
  /** Of texts whose tokens are read by SAEs, which takes as long as the model or longer. */
  readonly #readChunks: ChunkSize;

  constructor(
    readonly runner: Runner,
    readonly options: EngineLoopOptions,
    readonly send: (request: number, events: GenerationEvent[]) => void,
  ) {
    this.#scheduler = new Scheduler(options.parallel);
    this.#caches = new CachePool(runner, runner.replays ? options : null);
    // Most requests will use this geometry: its graphs are loaded before the first of them comes.
    runner.warmUp(options);
    this.#candidates = new Candidates(runner.model.shape.vocabSize);
    const chunkSize = () => new ChunkSize(options.window, runner.model.weights.bytes, runner.device.isHost);
    [this.#chunks, this.#readChunks] = [chunkSize(), chunkSize()];
  }

  /** Queues the sequences of a request. */
  submit(id: number, asked: readonly SequenceRequest[]): void {
    const sequences = asked.map((request, index) => this.#schedulable(id, index, request));
    this.#requests.set(id, { sequences: new Set(sequences), ahead: 0, pausedAt: null });
    for (const each of sequences) this.#scheduler.add(each);
  }

  /** Nobody reads this request any more. */
  cancel(id: number): void {
    for (const each of this.#requests.get(id)?.sequences ?? []) this.#finish(each);
    this.#requests.delete(id);
  }

  /** The reader has taken events of this much credit. */
  acknowledge(id: number, credit: number): void {
    const request = this.#requests.get(id);
    if (request === undefined) return;
    request.ahead -= credit;
    this.#pause(request, request.ahead >= CREDIT);
  }

  /** Gives one sequence a turn. Returns whether there was one to give. @throws DeviceLost for all of them. */
  step(): boolean {
    const turn = this.#scheduler.next();
    if (turn === undefined) return false;
    const began = performance.now();
    this.#turn(turn);
    this.#scheduler.charge(turn, performance.now() - began);
    return true;
  }

  /** Ends requests whose readers have not read for too long. */
  dropStalled(): void {
    const now = performance.now();
    for (const request of [...this.#requests.values()]) {
      if (request.pausedAt === null || now - request.pausedAt < this.options.stallTimeoutMs) continue;
      const message = `the reader took nothing for ${this.options.stallTimeoutMs / 1000} s`;
      for (const each of [...request.sequences]) this.#fail(each, { kind: "stalled", message });
    }
  }

  /** Bytes of keys and values, archives included. */
  get cacheBytes(): number {
    return this.#caches.bytes;
  }

  [Symbol.dispose](): void {
    for (const id of [...this.#requests.keys()]) this.cancel(id);
    this.#caches[Symbol.dispose]();
  }

  #fault(error: unknown): GenerationFault {
    return fault(error, this.runner.model.activations);
  }

  #schedulable(id: number, index: number, request: SequenceRequest): Scheduled {
    const geometry = this.#geometry(request.lambda);
    const { retrieve } = request.lambda;
    const retrieval = retrieve === undefined ? null : toRetrieval(retrieve, geometry.window, this.runner.model.shape);
    return new Scheduled(id, index, geometry, retrieval, () => this.#sequence(id, index, request, geometry));
  }

  #sequence(id: number, index: number, request: SequenceRequest, geometry: LambdaGeometry): Sequence {
    const longest = this.runner.model.shape.learnedPositions ?? Number.POSITIVE_INFINITY;
    const maxLength =
      geometry.window === Number.POSITIVE_INFINITY ? Math.min(longest, this.options.fullLength) : longest;
    const context = { ...this.options, window: geometry.window, maxLength, candidates: this.#candidates };
    const { saes } = this.options;
    const edits = request.edits.length === 0 ? null : residualEdits(request.edits, (sae) => saes.editable(sae));
    return new Sequence(id, index, firstState(request, context), edits, context);
  }

  #geometry({ window, sinks, mode }: LambdaOptions): LambdaGeometry {
    if (mode === "full") return { window: Number.POSITIVE_INFINITY, sinks: 0 };
    return { window: window ?? this.options.window, sinks: sinks ?? this.options.sinks };
  }

  #turn(turn: Scheduled): void {
    try {
      const { sequence } = turn;
      const events =
        sequence.prefilled < sequence.prefillLength && this.#needsPrefill(sequence)
          ? this.#prefill(turn)
          : this.#decode(turn);
      if (events.length > 0) this.#emit(turn, events);
      if (sequence.ended) this.#finish(turn);
    } catch (error) {
      const failure = gpuFailure(error, this.runner.device);
      // Nothing can be freed any more, or done for anybody else.
      if (failure?.kind === "device_lost") throw new DeviceLost(failure.message);
      this.#fail(turn, failure ? { kind: "out_of_memory", message: failure.message } : this.#fault(error));
      if (failure) this.#caches.shrink();
    }
  }

  #needsPrefill({ promptOnly, asked }: Sequence): boolean {
    return !promptOnly || asked.promptLogprobs !== null || asked.features?.prompt === true;
  }

  #prefill({ sequence, geometry, retrieval }: Scheduled): GenerationEvent[] {
    const { vocabSize } = this.runner.model.shape;
    const { cache, row, archive } = sequence.place ?? this.#caches.allocate(sequence, geometry, retrieval);
    const wantsLogits = sequence.asked.promptLogprobs !== null;
    const start = sequence.prefilled;
    const left = Math.min(sequence.prefillLength - start, geometry.window);
    const shared = this.#scheduler.ready > 1;
    const affordable = Math.min(
      Math.max(1, Math.floor(MASK_SCORES / (cache.count(row) + left))),
      Math.max(1, Math.floor(COMPARISONS / (comparisons(sequence.promptEdits) || 1))),
      wantsLogits ? Math.max(1, Math.floor(PROMPT_LOGITS / vocabSize)) : left,
    );
    const features = sequence.asked.features?.prompt === true ? sequence.asked.features : null;
    const chunks = features === null ? this.#chunks : this.#readChunks;
    const wished = sequence.repeatable ? chunks.steady(left) : chunks.next(left, shared);
    const size = Math.min(wished, affordable);
    const ids = sequence.promptIds(start, start + size);
    const began = performance.now();
    // Once for the whole prompt, not again and again as its chunks come.
    cache.reserve(row, left + 1);
    archive?.reserve(sequence.promptLength);
    const run = (residuals?: Residuals | TapRows): Float32Array =>
      this.runner.prefill(cache, row, ids, wantsLogits ? [...ids.keys()] : [], {
        ...(residuals ? { residuals } : {}),
        edits: sequence.promptEdits,
        archive,
      });
    const { result: logits, read: readings } =
      features === null ? { result: run(), read: [] } : this.#runRead(features, run);
    chunks.measured(size, performance.now() - began);
    sequence.prefilled += size;
    return [
      ...(wantsLogits ? [sequence.promptEvent(start, logits, vocabSize)] : []),
      ...sequence.promptFeatures(start, readings),
    ];
  }

  #decode(turn: Scheduled): GenerationEvent[] {
    const { sequence } = turn;
    const alone: GenerationEvent[] =
      sequence.prefillLength === 0 && sequence.asked.promptLogprobs !== null && sequence.place === null
        ? [{ type: "prompt", index: sequence.index, start: 0, logprobs: [null] }]
        : [];
    if (alone.length > 0) this.#emit(turn, alone);
    if (sequence.promptOnly && !sequence.readsNext) return [sequence.endWithoutText()];
    const logits = this.#pass(turn);
    if (sequence.ended) return [];
    return sequence.promptOnly ? [sequence.endWithoutText()] : sequence.accept(logits);
  }

  /** One pass over the sequence's last token: its readings, if asked for, go out; the logits behind it come back. */
  #pass(turn: Scheduled): Float32Array {
    const { sequence, geometry, retrieval } = turn;
    const { cache, row, archive } = sequence.place ?? this.#caches.allocate(sequence, geometry, retrieval);
    const { features } = sequence.asked;
    const options = { edits: [sequence.edits], archive };
    if (features === null || !sequence.readsNext) return this.runner.decode(cache, row, [sequence.lastToken], options);
    const { result: logits, read: readings } = this.#runRead(features, (residuals) =>
      this.runner.decode(cache, row, [sequence.lastToken], { ...options, residuals }),
    );
    for (const each of readings) this.#emit(turn, sequence.release(each));
    return logits;
  }

  /** A run's logits, and the readings of its tokens. */
  #runRead(features: FeatureRequest, run: (residuals: Residuals | TapRows) => Float32Array) {
    return runTapped(this.runner.device, run, (residuals) => this.options.saes.read(features, residuals));
  }

  #emit(turn: Scheduled, events: GenerationEvent[]): void {
    const request = this.#requests.get(turn.request);
    if (request === undefined) return;
    for (const event of events) request.ahead += eventCredit(event);
    if (request.ahead >= CREDIT) this.#pause(request, true);
    this.send(turn.request, events);
  }

  #pause(request: Request, paused: boolean): void {
    request.pausedAt = paused ? performance.now() : null;
    for (const each of request.sequences) each.paused = paused;
  }

  #fail(turn: Scheduled, error: GenerationFault): void {
    this.#emit(turn, [{ type: "error", index: turn.index, error }]);
    this.#finish(turn);
  }

  #finish(turn: Scheduled): void {
    if (turn.started !== null) this.#caches.release(turn.started);
    this.#scheduler.remove(turn);
    const request = this.#requests.get(turn.request);
    request?.sequences.delete(turn);
    if (request?.sequences.size === 0) this.#requests.delete(turn.request);
  }
}

function fault(error: unknown, activations: ActivationType): GenerationFault {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof NotFiniteLogits) {
    const remedy = activations === "float16" ? "; f16 has no room beyond 65,504: try --precision bf16 or f32" : "";
    return { kind: "not_finite", message: `${message}${remedy}` };
  }
  if (error instanceof NoTokenLeft) return { kind: "no_token_left", message };
  if (error instanceof OrtError && /alloc/i.test(message)) return { kind: "out_of_memory", message };
  return { kind: "internal", message };
}
