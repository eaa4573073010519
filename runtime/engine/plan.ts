import { type Placement, placement, type Resident } from "./placement.js";
import { type PlannedChunk, promptChunks } from "./prompt-chunks.js";

/** A sequence as a plan sees it: numbers alone, so that plans are made and tested without a model. */
export interface PlannedSequence extends Resident {
  /** Rows that share a name share a cache, and decode in one run; null: the row decodes by itself. */
  readonly batch: string | null;
  /** Prompt tokens in its cache, and those that are still to be prefilled. */
  readonly prefilled: number;
  readonly left: number;
  /**
   * Its first `free` prompt tokens may be cut into chunks anywhere: while nothing is evicted, where a text is cut changes no
   * bit, but for chunks of one token, which other kernels compute. Beyond, it is cut at multiples of `grid` whatever else
   * runs, because there it does.
   */
  readonly free: number;
  readonly grid: number;
  /** Keys that a token sees at most, infinite where all are kept. */
  readonly keys: number;
  /** Numbers that each prompt token costs beside attention: logits that are returned, and comparisons of edited features. */
  readonly logits: number;
  readonly comparisons: number;
  /** Whether SAEs read its prompt, which takes as long as the model or longer. */
  readonly read: boolean;
}

/** What runs took lately, ms; 0: nothing ran yet. */
export interface Costs {
  /** Decoding all rows that decode. */
  readonly decode: number;
  /** A prompt token of a chunk, and one that SAEs read. */
  readonly promptToken: number;
  readonly readToken: number;
  /** Parking a row, and bringing one back. */
  readonly swap: number;
}

export interface PlanInput {
  /** In the order in which they came. */
  readonly sequences: readonly PlannedSequence[];
  /** Sequences that may have a row at once. */
  readonly parallel: number;
  /** Sequences whose rows may be parked at once. */
  readonly parking: number;
  readonly costs: Costs;
  /** Counts the steps. */
  readonly step: number;
}

/** What one step does, in this order; sequences by their ids. */
export interface Plan extends Placement {
  /** Chunks of prompts, those of one run together; one prompt may have several, in one run after the other. */
  readonly chunks: readonly (readonly PlannedChunk[])[];
  /** Sequences that decode a token, those of one run together; prompts whose last chunk is in this step are among them. */
  readonly decode: readonly (readonly number[])[];
}

/** Chunks may take so many times what decoding takes, so that no gap between two tokens grows to more than three times. */
const CHUNKS_PER_DECODE = 2;

/** What a step does. It depends on nothing but its input. */
export function plan(input: PlanInput): Plan {
  const { park, place } = placement(input.sequences, { ...input, swap: input.costs.swap });
  const placed = new Set(place);
  const parked = new Set(park);
  const running = input.sequences.filter(
    ({ id, standing, paused }) => !paused && (placed.has(id) || (standing === "running" && !parked.has(id))),
  );
  const decoding = running.filter(({ left }) => left === 0);
  const chunks = promptChunks(
    running.filter(({ left }) => left > 0),
    decoding.length > 0 ? CHUNKS_PER_DECODE * input.costs.decode : null,
    input,
  );
  const read = new Map<number, number>();
  for (const { id, tokens } of chunks.flat()) read.set(id, (read.get(id) ?? 0) + tokens);
  const ready = running.filter(({ id, left }) => left === (read.get(id) ?? 0));
  return { park, place, chunks, decode: batches(ready) };
}

/** Those of one batch together. */
function batches(ready: readonly PlannedSequence[]): number[][] {
  const shared = new Map<string, number[]>();
  const runs: number[][] = [];
  for (const { id, batch } of ready) {
    const known = batch === null ? undefined : shared.get(batch);
    if (known !== undefined) known.push(id);
    else {
      const run = [id];
      runs.push(run);
      if (batch !== null) shared.set(batch, run);
    }
  }
  return runs;
}
