/**
 * What a body or a message may be made of. Its bytes are bounded already, but arrays and maps take up to a hundred times
 * their bytes once they are objects (32 MiB of "{}," are 1.1 GB and 8 s of JSON.parse), and five bytes of MessagePack
 * can claim an array of 4 billion values. So its bytes are looked over before anything is built. The largest honest one
 * is a prompt of token ids: numbers, which are not counted.
 */
const MOST_PARTS = 1 << 18;
const DEEPEST = 32;

/** Counts the arrays and members of one value, and looks how deep they are; throws a RangeError where it is too much. */
export function partCounter(): (more: number, depth: number) => void {
  let parts = 0;
  return (more, depth) => {
    parts += more;
    if (parts > MOST_PARTS) throw new RangeError(`it has more than ${MOST_PARTS} arrays and members`);
    if (depth > DEEPEST) throw new RangeError(`it is nested deeper than ${DEEPEST}`);
  };
}
