import { nextAtLeast } from "./next-at-least.js";

/**
 * Finds the `count` largest values; of equal ones those with the lower index. Their indices stand in out[0..n), in no order.
 * One pass with a heap of `count`. Values hold no NaN.
 * @returns n, the smaller of `count` and the number of values
 */
export function largest(values: Float32Array, count: number, out: Int32Array): number {
  const n = Math.min(count, values.length);
  if (n === 0) return 0;
  for (let i = 0; i < n; i++) out[i] = i;
  for (let i = (n >> 1) - 1; i >= 0; i--) siftDown(values, out, n, i);
  let least = values[out[0]!]!;
  for (let i = nextAtLeast(values, least, n); i < values.length; i = nextAtLeast(values, least, i + 1)) {
    if (values[i] === least) continue;
    out[0] = i;
    siftDown(values, out, n, 0);
    least = values[out[0]!]!;
  }
  return n;
}

/** `largest`, in order: the largest first, of equal ones those with the lower index. */
export function largestInOrder(values: Float32Array, count: number, out: Int32Array): number {
  const n = largest(values, count, out);
  for (let end = n - 1; end > 0; end--) {
    // The worst is at the top of the heap, and belongs to its end.
    const worst = out[0]!;
    out[0] = out[end]!;
    out[end] = worst;
    siftDown(values, out, end, 0);
  }
  return n;
}

/** Restores the heap below `at`: every parent is worse (smaller, or equal with a higher index) than its children. */
function siftDown(values: Float32Array, heap: Int32Array, n: number, at: number): void {
  const index = heap[at]!;
  const value = values[index]!;
  let parent = at;
  for (;;) {
    let child = 2 * parent + 1;
    if (child >= n) break;
    const right = child + 1;
    if (right < n && isWorse(values[heap[right]!]!, heap[right]!, values[heap[child]!]!, heap[child]!)) child = right;
    if (!isWorse(values[heap[child]!]!, heap[child]!, value, index)) break;
    heap[parent] = heap[child]!;
    parent = child;
  }
  heap[parent] = index;
}

const isWorse = (value: number, index: number, thanValue: number, thanIndex: number): boolean =>
  value < thanValue || (value === thanValue && index > thanIndex);
