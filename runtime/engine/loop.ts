import type { ActivationType } from "../../models/onnx/graph.js";
import type { TokenBytes } from "../../models/tokenizer/token-bytes.js";
import type { LambdaGeometry } from "../cache/lambda-cache.js";
import { type ModelIdentity, modelIdentity } from "../cache/model-identity.js";
import { PrefixStore } from "../cache/prefix-store.js";
import { toRetrieval } from "../cache/retrieval.js";
import { DeviceLost } from "../contract/errors.js";
import type {
  EngineCounts,
  GenerationEvent,
  GenerationFault,
  LambdaOptions,
  SequenceRequest,
} from "../contract/generation.js";
import { comparisons, residualEdits } from "../graphs/residual-edits.js";
import type { Runner } from "../graphs/runner.js";
import { gpuFailure } from "../ort/gpu-failure.js";
import { OrtError } from "../ort/library.js";
import type { AttachedSaes } from "../saes/attached-saes.js";
import { Candidates } from "../sampling/candidates.js";
import { NoTokenLeft, NotFiniteLogits } from "../sampling/finite-logits.js";
import { type CacheKind, CachePool } from "./cache-pool.js";
import { Member, readPromptAlike } from "./member.js";
import { type PlannedSequence, plan } from "./plan.js";
import { type PromptGrid, promptGrid } from "./prompt-grid.js";
import { PromptPrefix } from "./prompt-prefix.js";
import { type Outbox, Requests } from "./requests.js";
import { type StepResult, StepRunner } from "./run.js";
import { Sequence } from "./sequence.js";
import { firstState } from "./sequence-state.js";

export interface EngineLoopOptions extends LambdaGeometry {
  /** Sequences that have a row at once. */
  readonly parallel: number;
  /** Sequences whose rows may be parked at once. */
  readonly parking: number;
  readonly stallTimeoutMs: number;
  readonly eosTokenIds: readonly number[];
  readonly tokens: TokenBytes | null;
  /** Longest text in `mode: full`, whose cache grows with it. */
  readonly fullLength: number;
  /** Bytes of keys and values that are kept for prompts that begin alike; left out: none. */
  readonly prefixBytes?: number;
  readonly saes: AttachedSaes;
}

/**
 * The engine's loop, on the thread that owns ONNX Runtime. A step plans from what is there, runs the plan, and applies what
 * comes of it; its events leave together.
 */
export class EngineLoop implements Disposable {
  readonly #requests = new Requests();
  /** By their ids, in the order in which they came. */
  readonly #members = new Map<number, Member>();
  readonly #caches: CachePool;
  readonly #runner: StepRunner;
  readonly #candidates: Candidates;
  readonly #prefixes: PrefixStore;
  readonly #identity: ModelIdentity;
  #ids = 0;
  #steps = 0;

  constructor(
    readonly runner: Runner,
    readonly options: EngineLoopOptions,
    readonly send: (outbox: Outbox) => void,
  ) {
    this.#caches = new CachePool(runner, options, runner.replays);
    // Most requests will use this geometry: its graphs are loaded before the first of them comes.
    runner.warmUp(options);
    this.#runner = new StepRunner(runner, options.saes, this.#caches);
    this.#candidates = new Candidates(runner.model.shape.vocabSize);
    this.#prefixes = new PrefixStore(options.prefixBytes ?? 0);
    this.#identity = modelIdentity(runner.model, options.window, runner.kvFormat);
  }

  /** Queues the sequences of a request. */
  submit(request: number, asked: readonly SequenceRequest[]): void {
    const members = asked.map((each, index) => this.#member(request, index, each));
    const leaders = new Map<SequenceRequest["prompt"], Member[]>();
    for (const member of members) {
      this.#members.set(member.id, member);
      if (!member.isSharable) continue;
      const { prompt } = member.options.asked;
      const known = leaders.get(prompt) ?? [];
      const leader = known.find((each) => readPromptAlike(each, member));
      if (leader === undefined) leaders.set(prompt, [...known, member]);
      else member.follow(leader);
    }
    this.#requests.open(request, members);
  }

  /** Nobody reads this request any more. */
  cancel(request: number): void {
    for (const each of this.#requests.membersOf(request)) this.#finish(each);
    this.#requests.close(request);
  }

  /** The reader has taken events of this much credit. */
  acknowledge(request: number, credit: number): void {
    this.#requests.acknowledge(request, credit);
  }

  /** Returns whether there was anything to do. @throws DeviceLost for all of them. */
  step(): boolean {
    const inSight = this.#inSight();
    for (const each of inSight) each.lookForPrefix();
    const planned = plan({
      sequences: inSight.map((each) => this.#planned(each)),
      parallel: this.options.parallel,
      parking: this.options.parking,
      costs: this.#runner.costs,
      step: this.#steps++,
    });
    for (const result of this.#runner.run(planned, this.#members)) this.#apply(result);
    this.#sendOutbox();
    return Object.values(planned).some(({ length }) => length > 0);
  }

  /** Ends requests whose readers have not read for too long. */
  dropStalled(): void {
    const { stallTimeoutMs } = this.options;
    const message = `the reader took nothing for ${stallTimeoutMs / 1000} s`;
    for (const id of this.#requests.stalledFor(stallTimeoutMs))
      for (const each of this.#requests.membersOf(id)) this.#fail(each, { kind: "stalled", message });
    this.#sendOutbox();
  }

  get counts(): EngineCounts {
    return { prefixBytes: this.#prefixes.bytes, saturated: this.#caches.saturated };
  }

  /** Bytes of keys and values of texts, archives and parked rows included. */
  get cacheBytes(): number {
    const parked = new Set([...this.#members.values()].flatMap(({ stored }) => stored ?? []));
    return [...parked].reduce((sum, { payload }) => sum + payload.length, this.#caches.bytes);
  }

  [Symbol.dispose](): void {
    for (const id of this.#requests.ids) this.cancel(id);
    this.#caches[Symbol.dispose]();
  }

  #sendOutbox(): void {
    const outbox = this.#requests.takeOutbox();
    if (outbox.length > 0) this.send(outbox);
  }

  #member(request: number, index: number, asked: SequenceRequest): Member {
    const { model, device } = this.runner;
    const geometry = this.#geometry(asked.lambda);
    const { retrieve } = asked.lambda;
    const retrieval = retrieve === undefined ? null : toRetrieval(retrieve, geometry.window, model.shape);
    const kind = kindOf(asked);
    const grid = promptGrid(model, device.isHost, geometry.window, this.runner.kv);
    const compared =
      asked.editsFrom === "prompt" ? comparisons(asked.edits, (id) => this.options.saes.editable(id)) : 0;
    const start = () => this.#sequence(request, index, asked, geometry);
    const prefix = this.#prefix(asked, geometry, grid);
    const options = { request, index, asked, geometry, kind, retrieval, prefix, ...grid, comparisons: compared, start };
    return new Member(this.#ids++, options);
  }

  /** null where a prompt is read anew: each of its tokens is asked for, or an archive needs its key. */
  #prefix(asked: SequenceRequest, geometry: LambdaGeometry, grid: PromptGrid): PromptPrefix | null {
    const { prompt, lambda, features, promptLogprobs, edits, editsFrom, cacheSalt } = asked;
    const isAnew = promptLogprobs !== null || features?.prompt === true || lambda.retrieve !== undefined;
    if (isAnew || this.#prefixes.capacity === 0) return null;
    const windows = this.runner.model.shape.geometries.map(({ window }) =>
      window === "lambda" ? geometry.window : window,
    );
    return new PromptPrefix({
      ...grid,
      store: this.#prefixes,
      model: this.#identity,
      geometry,
      edits: editsFrom === "prompt" ? edits : [],
      salt: cacheSalt,
      ids: prompt.subarray(0, -1),
      reach: Math.max(...windows),
    });
  }

  #sequence(request: number, index: number, asked: SequenceRequest, geometry: LambdaGeometry): Sequence {
    const { saes, fullLength } = this.options;
    const longest = this.runner.model.shape.learnedPositions ?? Number.POSITIVE_INFINITY;
    const maxLength = kindOf(asked) === "full" ? Math.min(longest, fullLength) : longest;
    const context = { ...this.options, window: geometry.window, maxLength, candidates: this.#candidates };
    const edits = asked.edits.length === 0 ? null : residualEdits(asked.edits, (sae) => saes.editable(sae));
    return new Sequence(request, index, firstState(asked, context), edits, context);
  }

  #geometry({ window, sinks, mode }: LambdaOptions): LambdaGeometry {
    if (mode === "full") return { window: Number.POSITIVE_INFINITY, sinks: 0 };
    return { window: window ?? this.options.window, sinks: sinks ?? this.options.sinks };
  }

  /** All but those that could not begin in this step: thousands may wait. */
  #inSight(): Member[] {
    let newcomers = 0;
    return [...this.#members.values()].filter(({ leader, standing, paused }) => {
      if (leader !== null) return false;
      return standing !== "new" || (!paused && newcomers++ < this.options.parallel);
    });
  }

  #planned(member: Member): PlannedSequence {
    const { asked, geometry, kind, grid } = member.options;
    return {
      id: member.id,
      request: member.options.request,
      standing: member.standing,
      paused: member.paused,
      parkable: this.options.parking > 0 && (kind === "shared" || kind === "edited"),
      since: member.since,
      batch: kind === "shared" ? `${geometry.sinks}` : null,
      prefilled: member.prefilled,
      left: member.left,
      free: member.options.free,
      grid,
      keys: geometry.sinks + geometry.window,
      logits: asked.promptLogprobs === null ? 0 : this.runner.model.shape.vocabSize,
      comparisons: member.options.comparisons,
      read: asked.features?.prompt === true,
    };
  }

  #apply(result: StepResult): void {
    const { member } = result;
    try {
      if (result.type === "failed") throw result.error;
      const { sequence } = member;
      switch (result.type) {
        case "chunk":
          this.#emitShared(member, sequence.promptEvents(result));
          sequence.prefilled += result.tokens;
          if (member.left === 0) this.#handOver(member);
          return;
        case "read":
          this.#emit(member, [...sequence.opening(), sequence.endWithoutText()]);
          break;
        case "decoded":
          this.#emit(member, sequence.opening());
          if (result.readings !== null) this.#emit(member, sequence.release(result.readings));
          if (!sequence.ended)
            this.#emit(member, sequence.promptOnly ? [sequence.endWithoutText()] : sequence.accept(result.logits));
      }
      if (sequence.ended) this.#finish(member);
    } catch (error) {
      this.#failed(member, error);
    }
  }

  /** Gives what a prompt's row holds to those that wait for the same. */
  #handOver(leader: Member): void {
    const { place } = leader.sequence;
    const followers = leader.dismissFollowers();
    if (followers.length === 0 || place === null) return;
    try {
      leader.handOver(this.#caches.store(place), followers);
    } catch {
      // Without memory for a copy each reads the prompt for itself.
    }
  }

  #emit({ options }: Member, events: readonly GenerationEvent[]): void {
    this.#requests.emit(options.request, events);
  }

  /** Events of a prompt, for those that it is read for, too. */
  #emitShared(member: Member, events: readonly GenerationEvent[]): void {
    for (const each of [member, ...member.followers]) this.#emit(each, each.untold(events));
  }

  #failed(member: Member, error: unknown): void {
    const failure = gpuFailure(error, this.runner.device);
    // Nothing can be freed any more, or done for anybody else.
    if (failure?.kind === "device_lost") throw new DeviceLost(failure.message);
    const full = failure === null ? null : ({ kind: "out_of_memory", message: failure.message } as const);
    this.#fail(member, full ?? toFault(error, this.runner.model.activations));
    if (full !== null) this.#caches.shrink();
  }

  #fail(member: Member, error: GenerationFault): void {
    this.#emit(member, [{ type: "error", index: member.options.index, error }]);
    this.#finish(member);
  }

  #finish(member: Member): void {
    // The next one that has the same prompt reads it.
    const [next, ...others] = member.dismissFollowers();
    if (next !== undefined) for (const each of others) each.follow(next);
    if (member.started !== null) this.#caches.release(member.started);
    this.#members.delete(member.id);
    this.#requests.ended(member);
  }
}

/** The cache that a sequence's row is in, which says what it decodes with. */
function kindOf({ lambda, edits }: SequenceRequest): CacheKind {
  if (lambda.mode === "full") return "full";
  if (lambda.retrieve !== undefined) return "retrieving";
  return edits.length > 0 ? "edited" : "shared";
}

function toFault(error: unknown, activations: ActivationType): GenerationFault {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof NotFiniteLogits) {
    const remedy = activations === "float16" ? "; f16 has no room beyond 65,504: try --precision bf16 or f32" : "";
    return { kind: "not_finite", message: `${message}${remedy}` };
  }
  if (error instanceof NoTokenLeft) return { kind: "no_token_left", message };
  if (error instanceof OrtError && /alloc/i.test(message)) return { kind: "out_of_memory", message };
  return { kind: "internal", message };
}
