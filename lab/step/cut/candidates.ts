/** Features of the widest SAE that can be trained. */
export const WIDEST = 2 ** 17;

/**
 * The candidates of one row, of which the largest are kept: one row at a time. V8 knows where arrays lie that are constants
 * of a module and how long they are; loops over them take a fourth of the time of loops over arrays they are given.
 */
const values = new Float32Array(WIDEST);
const bits = new Int32Array(values.buffer);
const weights = new Float64Array(WIDEST);
const features = new Uint32Array(WIDEST);
/** What is selected among the candidates, by their numbers. */
const selection = new Uint32Array(WIDEST);
/** Those of one bucket. */
const members = new Uint32Array(WIDEST);

const SLICE = 4096;
const slice = new Float32Array(SLICE);
const factors = new Float32Array(SLICE);
const places = new Uint32Array(SLICE);

/** Bits of a float32 that are dropped: 16 buckets are left for each power of two. */
const SHIFT = 19;
const BUCKETS = 2 ** (31 - SHIFT);
const sums = new Float64Array(BUCKETS);

/** What of the candidates is kept: `selected` of them, and the sum of the weights of all but the last. */
export interface Selected {
  readonly selected: number;
  readonly before: number;
}

/** How many candidates there are, and the sum of their weights. */
export interface Sizes {
  readonly count: number;
  readonly total: number;
}

export const featureAt = (selected: number): number => features[selection[selected]!]!;
export const weightAt = (selected: number): number => weights[selection[selected]!]!;
export const valueAt = (selected: number): number => values[selection[selected]!]!;

/** Makes candidates of the activations of a row that are above 0 and not below `least`, by size. @returns how many */
export function gatherActivations(row: Float32Array, least: number): number {
  let count = 0;
  for (let first = 0; first < row.length; first += SLICE) {
    const length = load(row, first);
    const here = least > 0 ? placesFrom(length, least) : placesAbove0(length);
    for (let i = 0; i < here; i++) {
      const place = places[i]!;
      features[count] = first + place;
      weights[count] = 1;
      values[count++] = slice[place]!;
    }
  }
  return count;
}

/**
 * The same by activation * |decoder row|, with the square of that as weight.
 * @returns how many, and the sum of the weights
 */
export function gatherSizes(row: Float32Array, norms: Float32Array, least: number): Sizes {
  let [count, total] = [0, 0];
  for (let first = 0; first < row.length; first += SLICE) {
    const length = load(row, first);
    factors.set(norms.subarray(first, first + length));
    const here = least > 0 ? placesFrom(length, least) : placesAbove0(length);
    for (let i = 0; i < here; i++) {
      const place = places[i]!;
      const size = Math.fround(slice[place]! * factors[place]!);
      const square = size * size;
      features[count] = first + place;
      weights[count] = square;
      total += square;
      values[count++] = size;
    }
  }
  return { count, total };
}

/** The same of some features of a row by size, all of one weight. @returns how many */
export function gatherFeatures(row: Float32Array, numbers: Uint32Array): number {
  let count = 0;
  for (const feature of numbers) {
    const value = row[feature]!;
    if (!(value > 0)) continue;
    features[count] = feature;
    weights[count] = 1;
    values[count++] = value;
  }
  return count;
}

/** Appends the activations of a row that are above 0 and not below `least` to `target`, from `at` on. @returns how many */
export function appendActivations(row: Float32Array, least: number, target: Float32Array, at: number): number {
  const count = gatherActivations(row, least);
  target.set(values.subarray(0, count), at);
  return count;
}

/** Selects all of the candidates, in no order. */
export function selectAll(count: number): void {
  for (let i = 0; i < count; i++) selection[i] = i;
}

/**
 * Selects the largest candidates, of equal ones those of lower features, until their weights sum up to `target` or more; all
 * of them where they do not. The last selected is the least. One pass sorts into buckets by leading bits; only the bucket in
 * which the sum is reached is put in order.
 */
export function selectLargest(count: number, target: number): Selected {
  let [highest, lowest] = [0, BUCKETS - 1];
  for (let i = 0; i < count; i++) {
    const bucket = bits[i]! >> SHIFT;
    sums[bucket]! += weights[i]!;
    highest = Math.max(highest, bucket);
    lowest = Math.min(lowest, bucket);
  }
  let [bucket, before] = [highest, 0];
  for (; bucket > lowest && before + sums[bucket]! < target; bucket--) before += sums[bucket]!;
  sums.fill(0, lowest, highest + 1);
  let [selected, equal] = [0, 0];
  for (let i = 0; i < count; i++) {
    const above = (bits[i]! >> SHIFT) - bucket;
    selection[selected] = i;
    members[equal] = i;
    // No branch: which values are large cannot be predicted.
    selected += (above > 0 ? 1 : 0) | 0;
    equal += (above === 0 ? 1 : 0) | 0;
  }
  sortMembers(equal);
  for (let i = 0; i < equal; i++) {
    const member = members[i]!;
    selection[selected++] = member;
    const sum = before + weights[member]!;
    if (sum >= target || i === equal - 1) break;
    before = sum;
  }
  return { selected, before };
}

/** By insertion: a bucket holds a few. */
function sortMembers(count: number): void {
  for (let end = 1; end < count; end++) {
    const member = members[end]!;
    const value = values[member]!;
    let at = end;
    // Candidates come in the order of their features, which equal ones keep.
    for (; at > 0 && values[members[at - 1]!]! < value; at--) members[at] = members[at - 1]!;
    members[at] = member;
  }
}

function load(row: Float32Array, first: number): number {
  const part = row.subarray(first, first + SLICE);
  slice.set(part);
  return part.length;
}

function placesAbove0(length: number): number {
  let count = 0;
  for (let i = 0; i < length; i++) if (slice[i]! > 0) places[count++] = i;
  return count;
}

function placesFrom(length: number, least: number): number {
  let count = 0;
  for (let i = 0; i < length; i++) if (slice[i]! >= least) places[count++] = i;
  return count;
}
