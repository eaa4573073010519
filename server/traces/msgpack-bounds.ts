import { partCounter } from "../part-counter.js";

/** @throws RangeError where it is not exactly one value, has extension types, or too many arrays and entries, or too deep. */
export function checkMsgpackBounds(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = partCounter();
  /** Values still to come in each array and map that is open, the outermost first; `owed` is their sum. */
  const open = [1];
  let owed = 1;
  let at = 0;
  const skip = (size: number): number => {
    at += size;
    if (at > bytes.length) throw new RangeError("it ends within a value");
    return at - size;
  };
  const uint = (size: number): number => {
    const from = skip(size);
    return size === 1 ? view.getUint8(from) : size === 2 ? view.getUint16(from) : view.getUint32(from);
  };
  const enter = (parts: number, values: number): void => {
    owed += values;
    if (owed > bytes.length - at) throw new RangeError("it claims more values than it has bytes");
    count(parts, open.push(values));
  };
  while (owed > 0) {
    while (open.at(-1) === 0) open.pop();
    open.push((open.pop() ?? 0) - 1);
    owed -= 1;
    const head = uint(1);
    if (head <= 0x7f || head >= 0xe0) continue; // an integer in the byte itself
    if (head <= 0x8f) enter(1 + (head & 0x0f), 2 * (head & 0x0f));
    else if (head <= 0x9f) enter(1, head & 0x0f);
    else if (head <= 0xbf) skip(head & 0x1f);
    else if (head >= 0xde) {
      const entries = uint(2 << (head - 0xde));
      enter(1 + entries, 2 * entries);
    } else if (head >= 0xdc) enter(1, uint(2 << (head - 0xdc)));
    else if (head >= 0xd9) skip(uint(1 << (head - 0xd9)));
    else if (head >= 0xc4 && head <= 0xc6) {
      count(1, open.length);
      skip(uint(1 << (head - 0xc4)));
    } else skip(scalarBytes(head));
  }
  if (at < bytes.length) throw new RangeError("it goes on after its value");
}

/** Bytes after the head of nil, a boolean, a float or an integer. */
function scalarBytes(head: number): number {
  if (head === 0xc0 || head === 0xc2 || head === 0xc3) return 0;
  if (head === 0xca) return 4;
  if (head === 0xcb) return 8;
  if (head >= 0xcc && head <= 0xd3) return 1 << (head & 3);
  throw new RangeError("it has a type that is not taken here (extension types are not)");
}
