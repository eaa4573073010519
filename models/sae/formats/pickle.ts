/** Why a pickle is refused, as an error to throw; the reason continues "its pickle ...". */
export type Refuse = (reason: string) => Error;

/** A tuple. */
export class PickleTuple<L> {
  constructor(readonly items: readonly PickleValue<L>[]) {}
}

/** A dictionary; keys are strings in all files read here. */
export class PickleDict<L> {
  readonly entries = new Map<string, PickleValue<L>>();
}

/** What a pickle is made of; L is what the dialect's globals, calls and persistent ids stand for. */
export type PickleValue<L> = null | boolean | number | string | PickleTuple<L> | PickleDict<L> | L;

/** The meaning of what goes beyond plain data. Nothing is ever looked up or called by a name from the file. */
export interface PickleDialect<L> {
  /** GLOBAL: `name` is "module name". */
  global(name: string): L;
  /** REDUCE: the result of calling. */
  reduce(callable: PickleValue<L>, args: PickleTuple<L>): PickleValue<L>;
  /** BINPERSID: an object kept outside the pickle. */
  persistent(id: PickleValue<L>): L;
}

/**
 * Interprets the opcodes that a tensor file is written with (pickle protocol 2) and refuses every other. BUILD on a
 * dictionary is read and dropped: it carries attributes. Opcodes: CPython, Lib/pickletools.py.
 * @throws what `refuse` makes
 */
export function unpickle<L extends object>(
  bytes: Uint8Array,
  dialect: PickleDialect<L>,
  refuse: Refuse,
): PickleValue<L> {
  const read = byteReader(bytes, refuse);
  const memo = new Map<number, PickleValue<L>>();
  const below: PickleValue<L>[][] = [];
  let stack: PickleValue<L>[] = [];

  const pop = (): PickleValue<L> => {
    const value = stack.pop();
    if (value === undefined) throw refuse("takes a value from an empty stack");
    return value;
  };
  const top = (): PickleValue<L> => {
    const value = pop();
    stack.push(value);
    return value;
  };
  const popToMark = (): PickleValue<L>[] => {
    const values = stack;
    const outer = below.pop();
    if (!outer) throw refuse("goes back to a mark that was never set");
    stack = outer;
    return values;
  };
  const tuple = (size: number) => new PickleTuple(Array.from({ length: size }, pop).reverse());
  const recall = (index: number): PickleValue<L> => {
    const value = memo.get(index);
    if (value === undefined) throw refuse(`recalls memo ${index}, which was never set`);
    return value;
  };
  const setItems = (items: readonly PickleValue<L>[]): void => {
    const dict = top();
    if (!(dict instanceof PickleDict)) throw refuse("sets items of something that is no dictionary");
    for (let i = 0; i < items.length; i += 2) {
      const [key, value] = [items[i], items[i + 1]];
      if (typeof key !== "string" || value === undefined)
        throw refuse("has a dictionary entry without a string as key");
      dict.entries.set(key, value);
    }
  };

  const operations: Readonly<Record<number, () => void>> = {
    /* MARK */ 40: () => {
      below.push(stack);
      stack = [];
    },
    /* EMPTY_TUPLE */ 41: () => stack.push(new PickleTuple<L>([])),
    /* BININT */ 74: () => stack.push(read.i32()),
    /* BININT1 */ 75: () => stack.push(read.u8()),
    /* BININT2 */ 77: () => stack.push(read.u16()),
    /* NONE */ 78: () => stack.push(null),
    /* BINPERSID */ 81: () => stack.push(dialect.persistent(pop())),
    /* REDUCE */ 82: () => {
      const args = pop();
      if (!(args instanceof PickleTuple)) throw refuse("calls something without a tuple of arguments");
      stack.push(dialect.reduce(pop(), args));
    },
    /* BINUNICODE */ 88: () => stack.push(read.text(read.u32())),
    /* BUILD */ 98: () => {
      pop();
      if (!(top() instanceof PickleDict)) throw refuse("sets attributes of something that is no dictionary");
    },
    /* GLOBAL */ 99: () => stack.push(dialect.global(`${read.line()} ${read.line()}`)),
    /* BINGET */ 104: () => stack.push(recall(read.u8())),
    /* LONG_BINGET */ 106: () => stack.push(recall(read.u32())),
    /* BINPUT */ 113: () => memo.set(read.u8(), top()),
    /* LONG_BINPUT */ 114: () => memo.set(read.u32(), top()),
    /* SETITEM */ 115: () => setItems(tuple(2).items),
    /* TUPLE */ 116: () => {
      const items = popToMark();
      stack.push(new PickleTuple(items));
    },
    /* SETITEMS */ 117: () => setItems(popToMark()),
    /* EMPTY_DICT */ 125: () => stack.push(new PickleDict<L>()),
    /* PROTO */ 128: () => {
      const protocol = read.u8();
      if (protocol !== 2) throw refuse(`is written in protocol ${protocol}, but torch.save writes 2`);
    },
    /* TUPLE1 */ 133: () => stack.push(tuple(1)),
    /* TUPLE2 */ 134: () => stack.push(tuple(2)),
    /* TUPLE3 */ 135: () => stack.push(tuple(3)),
    /* NEWTRUE */ 136: () => stack.push(true),
    /* NEWFALSE */ 137: () => stack.push(false),
    /* LONG1 */ 138: () => stack.push(read.long(read.u8())),
  };

  for (let opcode = read.u8(); opcode !== 0x2e /* STOP */; opcode = read.u8()) {
    const operation = operations[opcode];
    if (!operation) throw refuse(`has opcode 0x${opcode.toString(16)}, which no file of tensors has`);
    operation();
  }
  return pop();
}

function byteReader(bytes: Uint8Array, refuse: Refuse) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const advance = (count: number): number => {
    const start = at;
    if (count > bytes.length - start) throw refuse("is cut off");
    at += count;
    return start;
  };
  const text = (count: number): string => {
    const start = advance(count);
    return new TextDecoder().decode(bytes.subarray(start, start + count));
  };
  return {
    text,
    u8: () => view.getUint8(advance(1)),
    u16: () => view.getUint16(advance(2), true),
    u32: () => view.getUint32(advance(4), true),
    i32: () => view.getInt32(advance(4), true),
    /** A whole number of `count` bytes, little-endian, two's complement. */
    long: (count: number): number => {
      const start = advance(count);
      let value = 0n;
      for (let i = 0; i < count; i++) value |= BigInt(view.getUint8(start + i)) << BigInt(8 * i);
      return Number(BigInt.asIntN(8 * count, value));
    },
    line: (): string => {
      const length = bytes.subarray(at).indexOf(0x0a);
      if (length < 0) throw refuse("is cut off");
      const line = text(length);
      advance(1);
      return line;
    },
  };
}
