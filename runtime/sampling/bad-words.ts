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
  readonly #recent: number[] = [];

  /** @param words token ids, none of them empty */
  constructor(words: readonly (readonly number[])[]) {
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

  #begun(word: readonly number[]): boolean {
    const before = word.length - 1;
    const start = this.#recent.length - before;
    if (start < 0) return false;
    for (let i = 0; i < before; i++) if (this.#recent[start + i] !== word[i]) return false;
    return true;
  }
}
