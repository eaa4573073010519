import type { FeatureRequest, SaeReading } from "../contract/features.js";
import type { Runner } from "../graphs/runner.js";
import { type Residuals, runTapped, type TapRows } from "../graphs/tap-outputs.js";
import { CudaError } from "../ort/cuda-runtime.js";
import { OrtError } from "../ort/library.js";
import type { AttachedSaes } from "../saes/attached-saes.js";
import type { CachePool } from "./cache-pool.js";
import type { Member } from "./member.js";
import type { Costs, Plan } from "./plan.js";
import type { Place } from "./sequence.js";

/** What a step has computed for one sequence. */
export type StepResult =
  /** Prompt tokens [start, start + tokens); logits [tokens, vocab], empty where nobody wants them. */
  | {
      readonly type: "chunk";
      readonly member: Member;
      readonly start: number;
      readonly tokens: number;
      readonly logits: Float32Array;
      readonly readings: readonly (readonly SaeReading[])[];
    }
  /** Logits [vocab] behind its last token, valid until the next result, and readings of that token, if it is read. */
  | {
      readonly type: "decoded";
      readonly member: Member;
      readonly logits: Float32Array;
      readonly readings: readonly SaeReading[] | null;
    }
  /** Its prompt is read, and nothing more is asked for. */
  | { readonly type: "read"; readonly member: Member }
  | { readonly type: "failed"; readonly member: Member; readonly error: unknown };

/** A sequence that decodes, and where. */
interface Decoding {
  readonly member: Member;
  readonly place: Place;
}

/** A sequence whose prompt is read, where, and the tokens of it. */
interface Reading extends Decoding {
  readonly ids: Int32Array<ArrayBuffer>;
}

/** Weight of the newest measurement in the costs of runs. */
const NEWEST = 0.3;

/** Carries out plans: the only part of the engine that touches tensors. */
export class StepRunner {
  readonly #costs = { decode: 0, promptToken: 0, readToken: 0, swap: 0 };

  constructor(
    readonly runner: Runner,
    readonly saes: AttachedSaes,
    readonly caches: CachePool,
  ) {}

  /** What runs took lately. */
  get costs(): Costs {
    return this.#costs;
  }

  /**
   * Does what a plan says, piece by piece. A result is to be applied before the next one is asked for: sequences that are
   * not among the members any more are left out of the rest. What fails is told of those that it fails for, and no others.
   */
  *run(plan: Plan, members: ReadonlyMap<number, Member>): Generator<StepResult> {
    const here = (ids: readonly number[]) => ids.flatMap((id) => members.get(id) ?? []);
    for (const member of here(plan.park)) this.#park(member);
    for (const member of here(plan.place)) member.become("running");
    for (const run of plan.chunks)
      yield* this.#read(run.flatMap(({ id, tokens }) => here([id]).map((member) => ({ member, tokens }))));
    const began = performance.now();
    for (const ids of plan.decode) yield* this.#decode(here(ids));
    if (plan.decode.length > 0) this.#measured("decode", performance.now() - began);
  }

  /** A row that finds no room stays where it is. */
  #park(member: Member): void {
    const place = member.started?.place ?? null;
    if (place !== null) {
      const began = performance.now();
      try {
        member.stored = this.caches.store(place);
      } catch {
        return;
      }
      this.caches.release(member.sequence);
      // Bringing it back takes about as long.
      this.#measured("swap", 2 * (performance.now() - began));
    }
    member.become("parked");
  }

  /** Chunks of prompts, in one run where there are several. */
  *#read(chunks: readonly { readonly member: Member; readonly tokens: number }[]): Generator<StepResult> {
    const reading: Reading[] = [];
    for (const { member, tokens } of chunks)
      yield* failing(member, () => {
        const { sequence } = member;
        const place = this.caches.placeOf(member);
        const { cache, row, archive } = place;
        // Once for the whole prompt, not again and again as its chunks come.
        cache.reserve(row, Math.min(sequence.prefillLength - sequence.prefilled, cache.windowOf(row)) + 1);
        archive?.reserve(sequence.promptLength);
        const ids = sequence.promptIds(sequence.prefilled, sequence.prefilled + tokens);
        reading.push({ member, place, ids });
        return [];
      });
    yield* together(
      reading,
      (one) => this.#readChunk(one),
      (all) => this.#readChunks(all),
    );
  }

  #readChunk({ member, place: { cache, row, archive }, ids }: Reading): StepResult[] {
    const began = performance.now();
    const { asked, prefilled: start, promptEdits: edits } = member.sequence;
    const wanted = asked.promptLogprobs === null ? [] : [...ids.keys()];
    const features = asked.features?.prompt === true ? asked.features : null;
    const run = (residuals?: Residuals | TapRows): Float32Array =>
      this.runner.prefill(cache, row, ids, wanted, { edits, archive, ...(residuals && { residuals }) });
    const { result: logits, read: readings } =
      features === null
        ? { result: run(), read: [] }
        : runTapped(this.runner.device, run, (residuals) => this.saes.read(features, residuals));
    member.options.prefix?.keep(cache, row, start, ids.length);
    this.#measured(features === null ? "promptToken" : "readToken", (performance.now() - began) / ids.length);
    return [{ type: "chunk", member, start, tokens: ids.length, logits, readings }];
  }

  /** Whole prompts that nothing is asked of but to be read. */
  #readChunks(reading: readonly [Reading, ...Reading[]]): StepResult[] {
    const began = performance.now();
    const [{ place }] = reading;
    const chunks = reading.map(({ place: { row }, ids }) => ({ row, ids, wanted: [] }));
    this.runner.prefillTogether(place.cache, chunks);
    for (const { member, place, ids } of reading) member.options.prefix?.keep(place.cache, place.row, 0, ids.length);
    const computed = reading.length * Math.max(...reading.map(({ ids }) => ids.length));
    this.#measured("promptToken", (performance.now() - began) / computed);
    const nothing = { logits: new Float32Array(), readings: [] };
    return reading.map(({ member, ids }) => ({ type: "chunk", member, start: 0, tokens: ids.length, ...nothing }));
  }

  *#decode(members: readonly Member[]): Generator<StepResult> {
    const decoding: Decoding[] = [];
    for (const member of members)
      yield* failing(member, () => {
        const { sequence } = member;
        if (sequence.promptOnly && !sequence.readsNext) return [{ type: "read", member }];
        const place = this.caches.placeOf(member);
        place.cache.reserve(place.row, 1);
        decoding.push({ member, place });
        return [];
      });
    yield* together(
      decoding,
      (one) => this.#decodeRows([one]),
      (all) => this.#decodeRows(all),
    );
  }

  #decodeRows(decoding: readonly [Decoding, ...Decoding[]]): StepResult[] {
    const rows = decoding.map(({ place }) => place.row);
    const first = Math.min(...rows);
    const tokens = Array<number | null>(Math.max(...rows) - first + 1).fill(null);
    const asked = Array<FeatureRequest | null>(tokens.length).fill(null);
    for (const { member, place } of decoding) {
      tokens[place.row - first] = member.sequence.lastToken;
      if (member.sequence.readsNext) asked[place.row - first] = member.sequence.asked.features;
    }
    const [{ member, place }] = decoding;
    const options = { edits: [member.sequence.edits], archive: place.archive };
    const run = (residuals?: Residuals | TapRows): Float32Array =>
      this.runner.decode(place.cache, first, tokens, residuals === undefined ? options : { ...options, residuals });
    const { result: logits, read: readings } = asked.some((each) => each !== null)
      ? runTapped(this.runner.device, run, (residuals) => this.#readings(asked, residuals))
      : { result: run(), read: [] };
    const { vocabSize } = this.runner.model.shape;
    return decoding.map(({ member, place }): StepResult => {
      const at = place.row - first;
      const own = logits.subarray(at * vocabSize, (at + 1) * vocabSize);
      const ofToken = readings[at] ?? null;
      if (ofToken instanceof Error) return { type: "failed", member, error: ofToken };
      return { type: "decoded", member, logits: own, readings: ofToken };
    });
  }

  /**
   * Readings of a step's rows, null of those that are not read. Errors are returned: the tokens are in the cache already, and
   * a run that is repeated would have them twice. Where reading all together fails, each is read alone.
   */
  #readings(
    asked: readonly (FeatureRequest | null)[],
    residuals: Residuals | TapRows,
  ): (readonly SaeReading[] | Error | null)[] {
    const read = (some: readonly (FeatureRequest | null)[]): (readonly SaeReading[] | Error | null)[] => {
      try {
        const readings = this.saes.readStep(some, residuals);
        return some.map((request, row) => (request === null ? null : (readings[row] ?? [])));
      } catch (error) {
        const failure = error instanceof Error ? error : new Error(String(error));
        return some.map((request) => (request === null ? null : failure));
      }
    };
    const all = read(asked);
    if (!all.some((each) => each instanceof Error)) return all;
    return asked.map((request, row) => {
      if (request === null) return null;
      return read(asked.map((_, i) => (i === row ? request : null)))[row] ?? null;
    });
  }

  #measured(cost: keyof Costs, ms: number): void {
    this.#costs[cost] = this.#costs[cost] === 0 ? ms : (1 - NEWEST) * this.#costs[cost] + NEWEST * ms;
  }
}

/** One run for all of them; where it fails, each is run alone, so that only those fail for which it does. */
function* together<Row extends { readonly member: Member }>(
  rows: readonly Row[],
  runOne: (row: Row) => readonly StepResult[],
  runAll: (rows: readonly [Row, ...Row[]]) => readonly StepResult[],
): Generator<StepResult> {
  const [first, ...others] = rows;
  if (first === undefined) return;
  if (others.length > 0) {
    let results: readonly StepResult[] | null = null;
    try {
      results = runAll([first, ...others]);
    } catch (error) {
      // Whom it failed for is seen when each runs alone.
      if (!(error instanceof OrtError || error instanceof CudaError)) {
        for (const { member } of rows) yield { type: "failed", member, error };
        return;
      }
    }
    if (results !== null) return yield* results;
  }
  for (const row of rows) yield* failing(row.member, () => runOne(row));
}

/** The results of `work`; where it throws, its member has failed. */
function* failing(member: Member, work: () => readonly StepResult[]): Generator<StepResult> {
  let results: readonly StepResult[];
  try {
    results = work();
  } catch (error) {
    results = [{ type: "failed", member, error }];
  }
  yield* results;
}
