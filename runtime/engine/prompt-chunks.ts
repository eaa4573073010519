import type { Costs, PlannedSequence } from "./plan.js";

/** A chunk of a prompt: the next `tokens` of it. */
export interface PlannedChunk {
  readonly id: number;
  readonly tokens: number;
}

/** What a chunk may take where nobody decodes, ms: a cancelled request still costs as much. */
const ALONE_MS = 180;
/** Tokens of a chunk: fewer are not worth the weights that are read for them, and more are no quicker. */
const SMALLEST = 16;
const LARGEST = 512;
/** Of so many steps, one gives its chunk to the prompt that came first: no stream of short prompts keeps it waiting. */
const STEPS_OF_OLDEST = 4;
/** Short prompts run together are padded to the longest: of what is computed, at least this share must be theirs. */
const LEAST_USED = 0.8;

/** Scores that a chunk's mask may have; only a text that keeps all keys comes near. */
const MASK_SCORES = 1 << 24;
/** Logits that a chunk may return, for log-probabilities of the prompt. */
const LOGITS = 1 << 22;
/** Numbers that a chunk may compute to see which edited features are kept. */
const COMPARISONS = 1 << 22;

/**
 * Which chunks of prompts run, those of one run together.
 * @param reading sequences whose prompts are not read to the end
 * @param ms what they may take beside those that decode, but for one run that there is always; null: nobody decodes
 */
export function promptChunks(
  reading: readonly PlannedSequence[],
  ms: number | null,
  { costs, step }: { readonly costs: Costs; readonly step: number },
): PlannedChunk[][] {
  const runs: PlannedChunk[][] = [];
  const done = new Map(reading.map(({ id, prefilled }) => [id, prefilled]));
  for (let left = ms ?? ALONE_MS, oldest = step % STEPS_OF_OLDEST === 0; ; oldest = false) {
    const next = nextPrompt(reading, done, oldest);
    if (next === undefined) return runs;
    const token = next.read ? costs.readToken : costs.promptToken;
    const run = chunksOfRun(next, reading, done, left / token);
    left -= run.length * Math.max(...run.map(({ tokens }) => tokens)) * token;
    if (runs.length > 0 && (ms === null || !(left > 0))) return runs;
    runs.push(run);
    // What was never measured is measured first.
    if (token === 0) return runs;
    for (const { id, tokens } of run) done.set(id, (done.get(id) ?? 0) + tokens);
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

/** A prompt's next chunk, and where it is a whole prompt, others that are short, too. */
function chunksOfRun(
  first: PlannedSequence,
  reading: readonly PlannedSequence[],
  done: ReadonlyMap<number, number>,
  affordable: number,
): PlannedChunk[] {
  const from = done.get(first.id) ?? 0;
  const run = [{ id: first.id, tokens: nextCut(first, from, affordable) - from }];
  if (!isWhole(first) || run[0]?.tokens !== first.left || from !== first.prefilled) return run;
  const most = Math.min(LARGEST, Number.isFinite(affordable) ? affordable : SMALLEST);
  let [longest, used] = [first.left, first.left];
  for (const each of reading) {
    if (each === first || each.batch !== first.batch || !isWhole(each) || done.get(each.id) !== 0) continue;
    const padded = (run.length + 1) * Math.max(longest, each.left);
    if (padded > most || used + each.left < LEAST_USED * padded) continue;
    run.push({ id: each.id, tokens: each.left });
    [longest, used] = [Math.max(longest, each.left), used + each.left];
  }
  return run;
}

/** Whether nothing of a prompt is read and all may be at once, beside others. A prompt of one token runs other kernels. */
function isWhole({ batch, prefilled, left, free, logits, comparisons, read }: PlannedSequence): boolean {
  return batch !== null && prefilled === 0 && left > 1 && left <= free && logits + comparisons === 0 && !read;
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
