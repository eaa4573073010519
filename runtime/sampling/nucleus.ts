/**
 * Moves the likeliest tokens of [from, to) to its front until their weight reaches `target`: the smallest such set, of equal
 * weights the lower ids (nucleus sampling, Holtzman et al. 2019, arXiv 1904.09751). Selection without sorting: O(n) expected.
 * @param ids token ids, rearranged together with `weights`
 * @returns the end of the set; `from` where nothing is asked for
 */
export function nucleus(ids: Int32Array, weights: Float64Array, from: number, to: number, target: number): number {
  let start = from;
  let end = to;
  let missing = target;
  while (start < end && missing > 0) {
    const place = partition(ids, weights, start, end);
    let better = 0;
    for (let i = start; i < place; i++) better += weights[i]!;
    if (better >= missing) {
      end = place;
    } else {
      missing -= better + weights[place]!;
      start = place + 1;
    }
  }
  return start;
}

/** Puts one element of [from, to) where it belongs, likelier ones before it, the others behind; returns its place. */
function partition(ids: Int32Array, weights: Float64Array, from: number, to: number): number {
  swap(ids, weights, from + ((to - from) >> 1), to - 1);
  const weight = weights[to - 1]!;
  const id = ids[to - 1]!;
  let place = from;
  for (let i = from; i < to - 1; i++) {
    const other = weights[i]!;
    if (other > weight || (other === weight && ids[i]! < id)) swap(ids, weights, i, place++);
  }
  swap(ids, weights, place, to - 1);
  return place;
}

function swap(ids: Int32Array, weights: Float64Array, a: number, b: number): void {
  const id = ids[a]!;
  const weight = weights[a]!;
  ids[a] = ids[b]!;
  weights[a] = weights[b]!;
  ids[b] = id;
  weights[b] = weight;
}
