const INITIAL_CAPACITY = 64;

/**
 * How often each token stands among the last `window` tokens of a sequence, prompt and output apart. Memory is bounded by
 * the window, not by the length of the text; a push costs O(1).
 */
export class TokenCounts {
  /** The last tokens, `2 * id + (1 if it is output)`; grows up to the window, then is a ring. */
  private recent = new Int32Array(INITIAL_CAPACITY);
  #pushed = 0;
  private readonly slots = new Map<number, number>();
  private ids = new Int32Array(INITIAL_CAPACITY);
  private inPromptOf = new Int32Array(INITIAL_CAPACITY);
  private inOutputOf = new Int32Array(INITIAL_CAPACITY);

  /**
   * @param window tokens that count, at least 1; Infinity: all
   * @param state where an earlier instance with the same window stood; left out: no tokens
   */
  constructor(
    private readonly window: number,
    state: Int32Array = new Int32Array(),
  ) {
    for (const token of state) this.#push(token);
  }

  pushPrompt(id: number): void {
    this.#push(2 * id);
  }

  pushOutput(id: number): void {
    this.#push(2 * id + 1);
  }

  /** Number of different tokens in the window. Slots 0..size - 1 hold them, in no order. */
  get size(): number {
    return this.slots.size;
  }

  /** The token in a slot. */
  id(slot: number): number {
    return this.ids[slot]!;
  }

  /** How often the token in a slot stands in the window's part of the prompt. */
  inPrompt(slot: number): number {
    return this.inPromptOf[slot]!;
  }

  /** How often the token in a slot stands in the window's part of the output. */
  inOutput(slot: number): number {
    return this.inOutputOf[slot]!;
  }

  /** The tokens of the window, oldest first, `2 * id + (1 if it is output)` each. */
  state(): Int32Array<ArrayBuffer> {
    const kept = Math.min(this.#pushed, this.window);
    return Int32Array.from({ length: kept }, (_, i) => this.recent[(this.#pushed - kept + i) % this.window]!);
  }

  #push(token: number): void {
    const at = this.#pushed % this.window;
    if (this.#pushed >= this.window) this.#count(this.recent[at]!, -1);
    if (at >= this.recent.length) this.recent = grown(this.recent, this.window);
    this.recent[at] = token;
    this.#pushed++;
    this.#count(token, 1);
  }

  #count(token: number, change: 1 | -1): void {
    const id = token >> 1;
    const slot = this.slots.get(id) ?? this.#open(id);
    const counts = token & 1 ? this.inOutputOf : this.inPromptOf;
    counts[slot]! += change;
    if (this.inPromptOf[slot] === 0 && this.inOutputOf[slot] === 0) this.#close(id, slot);
  }

  #open(id: number): number {
    const slot = this.slots.size;
    if (slot >= this.ids.length) {
      this.ids = grown(this.ids, this.window);
      this.inPromptOf = grown(this.inPromptOf, this.window);
      this.inOutputOf = grown(this.inOutputOf, this.window);
    }
    this.ids[slot] = id;
    this.inPromptOf[slot] = 0;
    this.inOutputOf[slot] = 0;
    this.slots.set(id, slot);
    return slot;
  }

  /** The last slot moves into the gap. */
  #close(id: number, slot: number): void {
    const last = this.slots.size - 1;
    const moved = this.ids[last]!;
    this.ids[slot] = moved;
    this.inPromptOf[slot] = this.inPromptOf[last]!;
    this.inOutputOf[slot] = this.inOutputOf[last]!;
    this.slots.set(moved, slot);
    this.slots.delete(id);
  }
}

function grown(array: Int32Array<ArrayBuffer>, limit: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(Math.min(2 * array.length, Math.max(limit, array.length + 1)));
  larger.set(array);
  return larger;
}
