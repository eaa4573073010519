/** Where the pieces of a text of `length` tokens end: pieces of `size` up to `from`, single tokens after it. */
export function pieceEnds(length: number, size: number, from = length): number[] {
  const ends: number[] = [];
  for (let end = 0; end < length; ) {
    end = end < from ? Math.min(end + size, from, length) : end + 1;
    ends.push(end);
  }
  return ends;
}
