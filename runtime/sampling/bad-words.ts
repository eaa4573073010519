/**
 * Words that a text must not have, each a sequence of tokens: its last token may not follow the others. Only generated
 * tokens count (as in vLLM): a word that begins in the prompt is not noticed.
 */
export class BadWords {
  /** The single tokens among them. */
  readonly #always: readonly number[];
  readonly #longer: readonly (readonly number[])[];
  readonly #longest: number;
  /** The last generated tokens, as many as the longest word has before its last. */
  readonly #recent: number[];

  /**
   * @param words token ids, none of them empty
   * @param state where an earlier instance with the same words stood; left out: before the first generated token
   */
  constructor(words: readonly (readonly number[])[], state: readonly number[] = []) {
    this.#recent = [...state];
    this.#always = words.filter((word) => word.length === 1).flat();
    this.#longer = words.filter((word) => word.length > 1);
    this.#longest = Math.max(0, ...this.#longer.map((word) => word.length));
  }

  /** Ids that would complete a word. */
  next(): number[] {
    const last = this.#longer.flatMap((word) => (this.#begun(word) ? word.slice(-1) : []));
    return [...this.#always, ...last];
  }

  push(id: number): void {
    if (this.#longest === 0) return;
    this.#recent.push(id);
    if (this.#recent.length >= this.#longest) this.#recent.shift();
  }

  /** The last generated tokens that a word may begin with, oldest first. */
  state(): readonly number[] {
    return [...this.#recent];
  }

  #begun(word: readonly number[]): boolean {
    const before = word.length - 1;
    const start = this.#recent.length - before;
    if (start < 0) return false;
    for (let i = 0; i < before; i++) if (this.#recent[start + i] !== word[i]) return false;
    return true;
  }
}
