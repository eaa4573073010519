import type { LambdaCache } from "../cache/lambda-cache.js";
import { blockBytes, type PrefixBlock, readBlock } from "../cache/prefix-block.js";
import { blockKeys, type PrefixSource } from "../cache/prefix-keys.js";
import type { PrefixStore } from "../cache/prefix-store.js";
import type { PromptGrid } from "./prompt-grid.js";

export interface PromptPrefixOptions extends PromptGrid, PrefixSource {
  readonly store: PrefixStore;
  /** The prompt's tokens that go through the prefill graph. */
  readonly ids: Int32Array;
  /** The largest window of a layer, infinite where all keys are kept. */
  readonly reach: number;
}

/**
 * The beginning of a prompt, as far as others that began alike have left it in the store, and what its own reading leaves
 * there. What is read on from it is, to the last bit, what is read anew.
 */
export class PromptPrefix {
  #keys: readonly string[] | null = null;
  #version = -1;
  #tokens = 0;
  /** What a row needs of the first `#tokens` tokens; held, because the store may drop them. */
  #blocks: readonly PrefixBlock[] = [];
  /** A block whose tokens before `filled` are copied. */
  #filling: { readonly block: PrefixBlock; filled: number } | null = null;

  constructor(readonly options: PromptPrefixOptions) {}

  /** Prompt tokens that need not be read. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Looks in the store again. */
  look(): void {
    const { store, block } = this.options;
    if (store.version === this.#version) return;
    this.#version = store.version;
    const count = this.#longest(this.keys.map((key) => store.has(key)));
    this.#tokens = count * block;
    this.#blocks = this.keys.slice(0, count).flatMap((key, i): PrefixBlock[] => {
      const [from, until] = [i * block, (i + 1) * block];
      const isNeeded = from < this.options.geometry.sinks || until > this.#tokens - this.options.reach;
      const payload = isNeeded ? store.get(key) : undefined;
      return payload === undefined ? [] : [{ from, until, payload }];
    });
  }

  /** Hands over what a row needs of those tokens. */
  take(): readonly PrefixBlock[] {
    const blocks = this.#blocks;
    this.#blocks = [];
    this.options.store.use(this.keys.slice(0, this.#tokens / this.options.block));
    return blocks;
  }

  /** Stores the blocks that are whole now that prompt tokens [start, start + tokens) are read, and stand in a row. */
  keep(cache: LambdaCache, row: number, start: number, tokens: number): void {
    const { block } = this.options;
    const end = Math.min(start + tokens, this.keys.length * block);
    // Other kernels compute a chunk of one token.
    if (tokens === 1) return;
    for (let from = start; from < end; ) {
      const until = Math.min(end, (Math.floor(from / block) + 1) * block);
      this.#keepPart(cache, row, from, until);
      from = until;
    }
  }

  private get keys(): readonly string[] {
    this.#keys ??= blockKeys(this.options, this.options.ids, this.options.block);
    return this.#keys;
  }

  /** Blocks up to the last border that a row can begin at. */
  #longest(known: readonly boolean[]): number {
    const { block, reach, geometry } = this.options;
    const starting = Math.ceil(geometry.sinks / block);
    const hasStarting = known.slice(0, starting).every((isKnown) => isKnown);
    let longest = 0;
    let run = 0;
    for (const [i, isKnown] of known.entries()) {
      run = isKnown ? run + 1 : 0;
      const isWhole = run > i || (hasStarting && run * block >= reach);
      if (isWhole && this.#isBorder((i + 1) * block)) longest = i + 1;
    }
    return longest;
  }

  /** Whether the rest of the prompt is read on from here as it is when all of it is read. */
  #isBorder(tokens: number): boolean {
    const { grid, free, ids } = this.options;
    const isLonely = tokens < free && Math.min(free, ids.length) - tokens === 1;
    return tokens % grid === 0 && !isLonely;
  }

  /** Tokens [from, until) of one block. */
  #keepPart(cache: LambdaCache, row: number, from: number, until: number): void {
    const { store, block, reach, geometry } = this.options;
    const nth = Math.floor(from / block);
    const key = this.keys[nth];
    const before = this.keys[nth - 1] ?? null;
    if (from === nth * block) this.#filling = null;
    if (key === undefined || store.has(key)) return;
    if (from === nth * block) {
      const span = { from, until: from + block };
      if (before !== null && !store.has(before)) return;
      const payload = store.allocate(blockBytes(cache, span));
      this.#filling = payload && { block: { ...span, payload }, filled: from };
    }
    const filling = this.#filling;
    if (filling?.filled !== from) return;
    readBlock(cache, row, filling.block, { from, until });
    filling.filled = until;
    if (until < filling.block.until) return;
    // The last one that a row at the end of this block does not need.
    const left = Math.floor((until - reach) / block) - 1;
    const expendable = left * block >= geometry.sinks ? (this.keys[left] ?? null) : null;
    store.put(key, filling.block.payload, { before, expendable });
    this.#filling = null;
  }
}
