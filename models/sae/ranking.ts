import { largestFirst } from "./largest-first.js";

/** The largest of some values, without sorting them all. */
export interface Ranking {
  /** How many certainly come first, and the sum of their squares. */
  readonly places: number;
  readonly squares: number;
  /** Gives the index of the value that comes after these, of equal ones the lowest first; then undefined. */
  readonly next: () => number | undefined;
}

/** Bits of a float32 that are dropped: 16 buckets are left for each power of two. */
const SHIFT = 19;
const BUCKET_BITS = 32 - 1 - SHIFT;
const BUCKETS = 2 ** BUCKET_BITS;
/** Buckets that are told apart, from the largest value's down to 2^-32 of it; all below are one. */
const DEPTH = 512;

/**
 * Ranks the first `count` of `values`, all of them positive, as far as `enough` asks: what comes first and what `next`
 * gives go together at least to where it becomes true, or to the end. One pass sorts values into buckets by their leading
 * bits; only the bucket in which `enough` becomes true is put in order.
 * @param enough of the number of the largest values and the sum of their squares; once true, it stays true
 * @param out the indices of the values that come first, in rising order
 */
export function rankLargest(
  values: Float32Array,
  count: number,
  enough: (places: number, squares: number) => boolean,
  out: Uint32Array,
): Ranking {
  let [highest, lowest] = [0, BUCKETS - 1];
  for (let first = 0; first < count; first += SLICE) {
    const range = addToBuckets(load(values, first, count));
    highest = Math.max(highest, range >> BUCKET_BITS);
    lowest = Math.min(lowest, range & (BUCKETS - 1));
  }
  let bucket = highest;
  const last = Math.max(0, bucket - DEPTH + 1);
  let [places, squares] = [0, 0];
  for (; bucket > last; bucket--) {
    const [more, larger] = [places + counts[bucket]!, squares + sums[bucket]!];
    if (more === count || enough(more, larger)) break;
    [places, squares] = [more, larger];
  }
  // Both are empty again for the next row.
  counts.fill(0, lowest, highest + 1);
  sums.fill(0, lowest, highest + 1);
  const [members, sizes]: [number[], number[]] = [[], []];
  for (let first = 0, found = 0; first < count; first += SLICE) {
    const here = split(load(values, first, count), first, bucket, bucket === last, members, sizes);
    out.set(indices.subarray(0, here), found);
    found += here;
  }
  const next = largestFirst(new Float64Array(sizes));
  return {
    places,
    squares,
    next: () => {
      const member = next();
      return member === undefined ? undefined : members[member];
    },
  };
}

const SLICE = 4096;
/**
 * What is worked on, a slice after the other. V8 knows where arrays lie that are constants of a module and how long they are;
 * loops over them take a fourth of the time of loops over arrays they are given.
 */
const slice = new Float32Array(SLICE);
const bits = new Int32Array(slice.buffer);
const indices = new Uint32Array(SLICE);
const counts = new Int32Array(BUCKETS);
const sums = new Float64Array(BUCKETS);

function load(values: Float32Array, first: number, count: number): number {
  const part = values.subarray(first, Math.min(first + SLICE, count));
  slice.set(part);
  return part.length;
}

/** @returns the highest bucket that was added to, and in its lowest BUCKET_BITS the lowest */
function addToBuckets(length: number): number {
  let [highest, lowest] = [0, BUCKETS - 1];
  for (let i = 0; i < length; i++) {
    const bucket = bits[i]! >> SHIFT;
    counts[bucket]!++;
    sums[bucket]! += slice[i]! * slice[i]!;
    highest = Math.max(highest, bucket);
    lowest = Math.min(lowest, bucket);
  }
  return (highest << BUCKET_BITS) | lowest;
}

/**
 * Values of the bucket go to `members` and `sizes`, with all below if it is the last.
 * @returns the number of values above the bucket, whose indices are in `indices` then
 */
function split(
  length: number,
  first: number,
  bucket: number,
  isLast: boolean,
  members: number[],
  sizes: number[],
): number {
  let found = 0;
  for (let i = 0; i < length; i++) {
    const below = bucket - (bits[i]! >> SHIFT);
    indices[found] = first + i;
    // No branch: which values are large cannot be predicted.
    found += below >>> 31;
    if (below === 0 || (isLast && below > 0)) {
      members.push(first + i);
      sizes.push(slice[i]!);
    }
  }
  return found;
}
