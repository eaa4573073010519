import { type Placement, placement, type Resident } from "./placement.js";

/** A sequence as a plan sees it: numbers alone, so that plans are made and tested without a model. */
export interface PlannedSequence extends Resident {
  /**
   * Rows that share a name share a cache, and decode in one run; null: the row has a cache of a kind that no others share,
   * and decodes by itself.
   */
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

/** A chunk of a prompt: the next `tokens` of it. */
export interface PlannedChunk {
  readonly id: number;
  readonly tokens: number;
}

/** What one step does, in this order; sequences by their ids. */
export interface Plan extends Placement {
  /** One prompt may have several, one after the other. */
  readonly chunks: readonly PlannedChunk[];
  /** Sequences that decode a token, those of one run together; prompts whose last chunk is in this step are among them. */
  readonly decode: readonly (readonly number[])[];
}

/** Chunks may take so many times what decoding takes, so that no gap between two tokens grows to more than three times. */
const CHUNKS_PER_DECODE = 2;
/** What a chunk may take where nobody decodes: a cancelled request still costs as much. */
const ALONE_MS = 180;
/** Tokens of a chunk: fewer are not worth the weights that are read for them, and more are no quicker. */
const SMALLEST = 16;
const LARGEST = 512;
/** Of so many steps, one gives its chunk to the prompt that came first: no stream of short prompts keeps it waiting. */
const STEPS_OF_OLDEST = 4;

/** Scores that a chunk's mask may have; only a text that keeps all keys comes near. */
const MASK_SCORES = 1 << 24;
/** Logits that a chunk may return, for log-probabilities of the prompt. */
const LOGITS = 1 << 22;
/** Numbers that a chunk may compute to see which edited features are kept. */
const COMPARISONS = 1 << 22;

/** What a step does. It depends on nothing but its input. */
export function plan(input: PlanInput): Plan {
  const { park, place } = placement(input.sequences, input);
  const placed = new Set(place);
  const parked = new Set(park);
  const running = input.sequences.filter(
    ({ id, standing, paused }) => !paused && (placed.has(id) || (standing === "running" && !parked.has(id))),
  );
  const decoding = running.filter(({ left }) => left === 0);
  const chunks = chunksOf(
    running.filter(({ left }) => left > 0),
    decoding.length > 0 ? CHUNKS_PER_DECODE * input.costs.decode : null,
    input,
  );
  const read = new Map<number, number>();
  for (const { id, tokens } of chunks) read.set(id, (read.get(id) ?? 0) + tokens);
  const ready = running.filter(({ id, left }) => left === (read.get(id) ?? 0));
  return { park, place, chunks, decode: batches(ready) };
}

/** One chunk where a prompt waits; while others decode, more as long as they fit into `ms`. */
function chunksOf(reading: readonly PlannedSequence[], ms: number | null, { costs, step }: PlanInput): PlannedChunk[] {
  const chunks: PlannedChunk[] = [];
  const done = new Map(reading.map(({ id, prefilled }) => [id, prefilled]));
  for (let left = ms ?? ALONE_MS, oldest = step % STEPS_OF_OLDEST === 0; ; oldest = false) {
    const next = nextPrompt(reading, done, oldest);
    if (next === undefined) return chunks;
    const token = next.read ? costs.readToken : costs.promptToken;
    const from = done.get(next.id) ?? 0;
    const tokens = nextCut(next, from, left / token) - from;
    left -= tokens * token;
    if (chunks.length > 0 && (ms === null || !(left > 0))) return chunks;
    chunks.push({ id: next.id, tokens });
    done.set(next.id, from + tokens);
  }
}

/** The prompt of which least was read, so that short ones are not kept waiting by long ones; of equals the first. */
function nextPrompt(
  reading: readonly PlannedSequence[],
  done: ReadonlyMap<number, number>,
  oldest: boolean,
): PlannedSequence | undefined {
  let best: PlannedSequence | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const each of reading) {
    const read = done.get(each.id) ?? 0;
    if (read === each.prefilled + each.left) continue;
    if (oldest) return each;
    if (read < least) [best, least] = [each, read];
  }
  return best;
}

/** Where a prompt of which `from` tokens are read is cut next. @param affordable tokens that there is time for; NaN: unknown */
function nextCut(prompt: PlannedSequence, from: number, affordable: number): number {
  const end = prompt.prefilled + prompt.left;
  const most = fitting(prompt, from);
  if (from >= prompt.free) return Math.min((Math.floor(from / prompt.grid) + 1) * prompt.grid, from + most, end);
  const wished = Number.isFinite(affordable) ? SMALLEST * Math.floor(affordable / SMALLEST) : SMALLEST;
  const until = Math.min(prompt.free, end);
  const cut = Math.min(from + Math.min(Math.max(SMALLEST, wished), LARGEST, most), until);
  // Two are left rather than one.
  return until - cut === 1 && cut - from > 2 ? cut - 1 : cut;
}

/** Tokens of one run that masks, logits and comparisons have memory for. */
function fitting({ keys, grid, logits, comparisons }: PlannedSequence, from: number): number {
  const most = Math.min(
    MASK_SCORES / (Math.min(from, keys) + grid),
    logits > 0 ? LOGITS / logits : LARGEST,
    comparisons > 0 ? COMPARISONS / comparisons : LARGEST,
  );
  return Math.max(1, Math.floor(most));
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
