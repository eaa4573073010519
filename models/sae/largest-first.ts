/**
 * Gives the indices of the positive values one by one, the largest first, of equal ones the lowest index first; then
 * undefined. A heap: n steps to begin with and log n for each index asked for, instead of a sort of all.
 */
export function largestFirst(values: Float64Array): () => number | undefined {
  const heap = new Uint32Array(values.length);
  let size = 0;
  for (let i = 0; i < values.length; i++) if ((values[i] ?? 0) > 0) heap[size++] = i;
  const before = (a: number, b: number): boolean => {
    const [x, y] = [values[a] ?? 0, values[b] ?? 0];
    return x > y || (x === y && a < b);
  };
  const sink = (from: number): void => {
    const moving = heap[from] ?? 0;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && before(heap[child + 1] ?? 0, heap[child] ?? 0)) child++;
      if (!before(heap[child] ?? 0, moving)) break;
      heap[at] = heap[child] ?? 0;
      at = child;
    }
    heap[at] = moving;
  };
  for (let i = (size >> 1) - 1; i >= 0; i--) sink(i);
  return () => {
    if (size === 0) return undefined;
    const largest = heap[0];
    heap[0] = heap[--size] ?? 0;
    if (size > 0) sink(0);
    return largest;
  };
}
