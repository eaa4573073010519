import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { isJsonObject, type JsonObject } from "../../models/model-file.js";
import { SetupError } from "../../runtime/contract/errors.js";
import type { ActivationSource } from "./activation-source.js";
import { permutation } from "./permutation.js";
import { BLOCK_ROWS, RowFile } from "./row-file.js";

/** Rows that a buffer has where nobody says how many. */
export const DEFAULT_VECTORS = 262_144;
/** The rows of a refill, of the one before, and of the last checkpoint's. */
const MOST_FILES = 3;

export interface BufferChoice {
  /** Rows, of which half are replaced at a refill; default: 262,144. */
  readonly vectors?: number | undefined;
  /** Rows of a batch. */
  readonly batch: number;
  readonly seed: number;
  /** What `state` gave. */
  readonly resumed?: JsonObject | undefined;
  readonly onNotice?: ((line: string) => void) | undefined;
}

const State = z.object({
  ...{ vectors: z.int(), batch: z.int(), seed: z.int(), width: z.int() },
  ...{ refill: z.int(), rows: z.int(), ended: z.boolean() },
  /** sha256 of the refill's file. */
  digest: z.string(),
  source: z.custom<JsonObject>(isJsonObject),
});
type State = z.infer<typeof State>;

/**
 * Mixes the rows of a source on the disk: at a refill the half that was not served yet is joined by new rows, and half of all,
 * in an order that seed and refill decide, are served in batches. When the source is at its end, what is left is served; the
 * last rows, fewer than a batch, are left out. Each refill has a file of its own, and the one that `checkpointed` was called
 * at stays, so that a run goes on from there with the same batches, whenever it was ended.
 */
export class ShuffleBuffer implements Disposable {
  readonly #half: number;
  #refill = -1;
  #rows: RowFile | null = null;
  #order: Uint32Array = new Uint32Array();
  /** Of the order: rows that were served, and up to where they are before the next refill. */
  #served = 0;
  #end = 0;
  /** Nothing comes from the source any more. */
  #ended = false;
  #checkpoint: number | null = null;

  private constructor(
    readonly folder: string,
    readonly source: ActivationSource,
    readonly choice: BufferChoice,
  ) {
    this.#half = halfOf(choice);
  }

  /**
   * Fills the buffer in a folder, which is made; files of an earlier run there are removed unless it is resumed.
   * @param sourceAt opens the source, where the state of an earlier one is given after that
   * @throws SetupError where the source has not even a batch, the disk is full, or the state is of another buffer
   */
  static async open(
    folder: string,
    sourceAt: (state?: JsonObject) => Promise<ActivationSource>,
    choice: BufferChoice,
  ): Promise<ShuffleBuffer> {
    halfOf(choice);
    mkdirSync(folder, { recursive: true });
    const state = choice.resumed === undefined ? null : State.parse(choice.resumed);
    const buffer = new ShuffleBuffer(folder, await sourceAt(state?.source), choice);
    try {
      if (state === null) await buffer.#begin();
      else buffer.#resume(state);
      return buffer;
    } catch (error) {
      buffer[Symbol.dispose]();
      throw error;
    }
  }

  /** Bytes that a buffer takes, at most. */
  static needs({ vectors = DEFAULT_VECTORS, width }: { readonly vectors?: number; readonly width: number }): {
    readonly disk: number;
    readonly memory: number;
  } {
    const floats = Float32Array.BYTES_PER_ELEMENT;
    return { disk: MOST_FILES * vectors * width * floats, memory: (2 * vectors + 2 * BLOCK_ROWS * width) * floats };
  }

  get width(): number {
    return this.source.width;
  }

  /** Whether no batch was served since the last refill: the only places where a run can be resumed. */
  get atRefill(): boolean {
    return this.#served === 0;
  }

  /**
   * The next batch [batch, width]; false: there is none. After the last batch before a refill the buffer has been refilled
   * already.
   */
  async next(into: Float32Array): Promise<boolean> {
    const { batch } = this.choice;
    if (into.length !== batch * this.width) throw new RangeError(`a batch has ${batch} rows of ${this.width}`);
    if (this.#served === this.#end) return false;
    this.#rows?.gather(this.#order.subarray(this.#served, this.#served + batch), into);
    this.#served += batch;
    if (this.#served === this.#end && !this.#ended) await this.#fill();
    return true;
  }

  /** At a refill: what a run is resumed with. */
  state(): JsonObject {
    if (!this.atRefill || this.#rows === null) throw new RangeError("a buffer can be resumed only at a refill");
    const { batch, seed } = this.choice;
    return {
      ...{ vectors: 2 * this.#half, batch, seed, width: this.width },
      ...{ refill: this.#refill, rows: this.#rows.rows, ended: this.#ended, digest: this.#rows.digest() },
      source: this.source.state(),
    } satisfies State;
  }

  /** The state of this refill is in a checkpoint that stands: rows of the one before are not needed any more. */
  checkpointed(): void {
    this.#checkpoint = this.#refill;
    this.#removeOthers([this.#refill]);
  }

  [Symbol.dispose](): void {
    this.#rows?.[Symbol.dispose]();
    this.#rows = null;
  }

  async #begin(): Promise<void> {
    this.#removeOthers([]);
    await this.#fill();
    const rows = this.#rows?.rows ?? 0;
    const { batch, onNotice } = this.choice;
    if (this.#end === 0)
      throw new SetupError(`the text is too short: it gives ${rows} rows of activations, and a batch has ${batch}`);
    if (this.#ended)
      onNotice?.(
        `the text gives ${rows} rows, fewer than the buffer's ${2 * this.#half}: all of them are mixed at once`,
      );
  }

  #resume(state: State): void {
    const { batch, seed } = this.choice;
    const own = { vectors: 2 * this.#half, batch, seed, width: this.width };
    const other = (["vectors", "batch", "seed", "width"] as const).find((name) => state[name] !== own[name]);
    if (other !== undefined)
      throw new SetupError(`the run that is to be resumed had a buffer with another ${other}: ${state[other]}`);
    this.#rows = RowFile.open(this.#file(state.refill), this.width);
    if (this.#rows.rows !== state.rows || this.#rows.digest() !== state.digest)
      throw new SetupError(`${this.#rows.path} is not what it was at the checkpoint: the run cannot be resumed`);
    this.#refill = state.refill;
    this.#ended = state.ended;
    this.#checkpoint = state.refill;
    this.#removeOthers([state.refill]);
    this.#mix();
  }

  /** Writes what is left and new rows into a new file; where that fails, the last one is as it was. */
  async #fill(): Promise<void> {
    const refill = this.#refill + 1;
    const rows = RowFile.create(this.#file(refill), this.width);
    try {
      if (this.#rows !== null) this.#keep(this.#rows, rows);
      await this.#takeNew(rows);
    } catch (error) {
      rows[Symbol.dispose]();
      rmSync(rows.path, { force: true });
      throw error;
    }
    this.#ended = rows.rows < 2 * this.#half;
    this.#rows?.[Symbol.dispose]();
    this.#rows = rows;
    this.#refill = refill;
    this.#removeOthers([refill, ...(this.#checkpoint === null ? [] : [this.#checkpoint])]);
    this.#mix();
  }

  /** Copies the rows that were not served. */
  #keep(from: RowFile, to: RowFile): void {
    const { width } = this;
    const kept = new Uint8Array(from.rows);
    for (const row of this.#order.subarray(this.#served)) kept[row] = 1;
    for (const { first, rows } of from.blocks()) {
      let count = 0;
      for (let row = 0; row * width < rows.length; row++) {
        if (kept[first + row] !== 1) continue;
        rows.copyWithin(count * width, row * width, (row + 1) * width);
        count++;
      }
      to.append(rows.subarray(0, count * width), 2 * this.#half - to.rows);
    }
  }

  async #takeNew(to: RowFile): Promise<void> {
    const block = new Float32Array(BLOCK_ROWS * this.width);
    while (to.rows < 2 * this.#half) {
      const room = block.subarray(0, Math.min(BLOCK_ROWS, 2 * this.#half - to.rows) * this.width);
      const taken = await this.source.fill(room);
      to.append(room.subarray(0, taken * this.width), 2 * this.#half - to.rows);
      if (taken * this.width < room.length) return;
    }
  }

  #mix(): void {
    const rows = this.#rows?.rows ?? 0;
    const { batch, seed } = this.choice;
    this.#order = permutation(rows, seed, this.#refill);
    this.#served = 0;
    this.#end = this.#ended ? rows - (rows % batch) : this.#half;
  }

  #file(refill: number): string {
    return join(this.folder, `rows-${refill}.f32`);
  }

  #removeOthers(needed: readonly number[]): void {
    for (const name of readdirSync(this.folder)) {
      const [, refill] = /^rows-(\d+)\.f32$/.exec(name) ?? [];
      if (refill !== undefined && !needed.includes(Number(refill))) rmSync(join(this.folder, name));
    }
  }
}

/** Rows that are served between two refills. */
function halfOf({ vectors = DEFAULT_VECTORS, batch }: BufferChoice): number {
  const half = Math.floor(vectors / 2 / batch) * batch;
  if (half === 0) throw new SetupError(`a buffer of ${vectors} rows does not hold two batches of ${batch}`);
  return half;
}
