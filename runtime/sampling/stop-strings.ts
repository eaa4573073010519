/** Text that may go out, and the stop string that ended it. */
export interface Released {
  readonly text: string;
  readonly matched: string | null;
}

/** Where a text stands among its stop strings, as plain data. */
export interface StopStringsState {
  /** The longest beginning of a stop string that the text ends with. */
  readonly held: string;
  readonly matched: string | null;
}

/** A prefix of one or more stop strings. */
interface Prefix {
  readonly text: string;
  readonly next: Map<number, Prefix>;
  /** Its longest proper suffix that is a prefix of a stop string, too. */
  fallback: Prefix | null;
  /** The longest stop string that ends here. */
  matched: string | null;
}

/**
 * Ends a text before the first stop string, over any boundaries of tokens. The string that is complete first wins, at the
 * same end the longest: the text is what it would be if characters came one by one (as vLLM defines it), and generation
 * never goes on behind a complete stop string. Held back is only what a stop string may begin with.
 * Aho and Corasick 1975: time is linear in the text, whatever the stop strings are. With `include` the text ends behind the
 * stop string instead, so nothing need be held back.
 */
export class StopStrings {
  readonly #root: Prefix;
  #held: Prefix;
  #matched: string | null;

  /** @param state where an earlier instance with the same stop strings stood; left out: at the start of a text */
  constructor(
    stops: readonly string[],
    private readonly include = false,
    state: StopStringsState = { held: "", matched: null },
  ) {
    this.#root = treeOf(stops);
    this.#held = this.#root;
    this.#matched = state.matched;
    this.push(state.held);
  }

  state(): StopStringsState {
    return { held: this.#held.text, matched: this.#matched };
  }

  /** Takes the next piece of text (whole characters). Behind a match nothing comes any more. */
  push(piece: string): Released {
    if (this.#matched !== null) return { text: "", matched: this.#matched };
    const before = this.include ? "" : this.#held.text;
    let prefix = this.#held;
    for (let at = 0; at < piece.length; at++) {
      prefix = follow(prefix, piece.charCodeAt(at));
      if (prefix.matched === null) continue;
      this.#matched = prefix.matched;
      this.#held = this.#root;
      const cut = this.include ? 0 : prefix.matched.length;
      return { text: first(before.length + at + 1 - cut, before, piece), matched: prefix.matched };
    }
    this.#held = prefix;
    const kept = this.include ? 0 : prefix.text.length;
    return { text: first(before.length + piece.length - kept, before, piece), matched: null };
  }

  /** The text has ended: releases what was held back. */
  flush(): string {
    const text = this.include ? "" : this.#held.text;
    this.#held = this.#root;
    return text;
  }
}

const first = (length: number, before: string, piece: string): string =>
  length <= before.length ? before.slice(0, length) : before + piece.slice(0, length - before.length);

function follow(prefix: Prefix, unit: number): Prefix {
  let from: Prefix = prefix;
  for (;;) {
    const to = from.next.get(unit);
    if (to) return to;
    if (!from.fallback) return from;
    from = from.fallback;
  }
}

/** Choices of a request share their stop strings, and what is made of them. */
const trees = new WeakMap<readonly string[], Prefix>();

function treeOf(stops: readonly string[]): Prefix {
  const known = trees.get(stops);
  if (known !== undefined) return known;
  const tree = prefixTree(stops);
  trees.set(stops, tree);
  return tree;
}

function prefixTree(stops: readonly string[]): Prefix {
  const node = (text: string): Prefix => ({ text, next: new Map(), fallback: null, matched: null });
  const root = node("");
  for (const stop of stops) {
    // Half a surrogate pair occurs in no text, but would match inside of a character. "" would end every text at once.
    if (stop === "" || /\p{Surrogate}/u.test(stop)) continue;
    let prefix = root;
    for (let at = 0; at < stop.length; at++) {
      const unit = stop.charCodeAt(at);
      const next = prefix.next.get(unit) ?? node(stop.slice(0, at + 1));
      prefix.next.set(unit, next);
      prefix = next;
    }
    prefix.matched = stop;
  }
  const queue = [root];
  for (const prefix of queue) {
    for (const [unit, next] of prefix.next) {
      next.fallback = prefix.fallback ? follow(prefix.fallback, unit) : root;
      next.matched ??= next.fallback.matched;
      queue.push(next);
    }
  }
  return root;
}
