import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { isJsonObject, type JsonObject } from "../../models/model-file.js";
import { SetupError } from "../../runtime/contract/errors.js";
import type { ActivationSource } from "./activation-source.js";
import { MixedRows } from "./mixed-rows.js";
import { resumedState } from "./resumed-state.js";
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
  /** null before the first refill, and when disposed. */
  #rows: MixedRows | null = null;
  /** Nothing comes from the source any more. */
  #ended = false;
  /** Refill of the last checkpoint. */
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
    const state = resumedState(State, choice.resumed);
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
    return this.#rows?.served === 0;
  }

  /**
   * The next batch [batch, width]; false: there is none. After the last batch before a refill the buffer has been refilled
   * already.
   */
  async next(into: Float32Array): Promise<boolean> {
    const { batch } = this.choice;
    if (into.length !== batch * this.width) throw new RangeError(`a batch has ${batch} rows of ${this.width}`);
    const rows = this.#rows;
    if (rows === null || rows.served === rows.end) return false;
    rows.next(into);
    if (rows.served === rows.end && !this.#ended) await this.#fill();
    return true;
  }

  /** At a refill: what a run is resumed with. The rows are on the disk then, even if the power fails. */
  state(): JsonObject {
    if (this.#rows?.served !== 0) throw new RangeError("a buffer can be resumed only at a refill");
    const { file, refill } = this.#rows;
    file.sync();
    return {
      ...this.#settings(),
      ...{ refill, rows: file.rows, ended: this.#ended, digest: file.digest(), source: this.source.state() },
    } satisfies State;
  }

  /** The state of this refill is in a checkpoint that stands: rows of the one before are not needed any more. */
  checkpointed(): void {
    this.#checkpoint = this.#rows?.refill ?? null;
    this.#removeOthers();
  }

  [Symbol.dispose](): void {
    this.#rows?.[Symbol.dispose]();
    this.#rows = null;
  }

  async #begin(): Promise<void> {
    this.#removeOthers();
    await this.#fill();
    const rows = this.#rows?.file.rows ?? 0;
    const { batch, onNotice } = this.choice;
    if (this.#rows?.end === 0)
      throw new SetupError(`the text is too short: it gives ${rows} rows of activations, and a batch has ${batch}`);
    if (this.#ended)
      onNotice?.(
        `the text gives ${rows} rows, fewer than the buffer's ${2 * this.#half}: all of them are mixed at once`,
      );
  }

  #resume({ refill, rows, ended, digest, ...state }: State): void {
    const own = this.#settings();
    const other = (["vectors", "batch", "seed", "width"] as const).find((name) => state[name] !== own[name]);
    if (other !== undefined)
      throw new SetupError(`the run that is to be resumed had a buffer with another ${other}: ${state[other]}`);
    const file = RowFile.open(this.#file(refill), this.width);
    this.#ended = ended;
    this.#checkpoint = refill;
    this.#mix(file, refill);
    if (file.rows !== rows || file.digest() !== digest)
      throw new SetupError(`${file.path} is not what it was at the checkpoint: the run cannot be resumed`);
    this.#removeOthers();
  }

  /** Writes what is left and new rows into a new file; where that fails, the last one is as it was. */
  async #fill(): Promise<void> {
    const before = this.#rows;
    const refill = before === null ? 0 : before.refill + 1;
    const size = 2 * this.#half;
    const file = RowFile.create(this.#file(refill), this.width);
    try {
      before?.keep(file, size);
      await this.#takeNew(file, size);
    } catch (error) {
      file[Symbol.dispose]();
      rmSync(file.path, { force: true });
      throw error;
    }
    before?.[Symbol.dispose]();
    this.#ended = file.rows < size;
    this.#mix(file, refill);
    this.#removeOthers();
  }

  async #takeNew(to: RowFile, size: number): Promise<void> {
    const block = new Float32Array(BLOCK_ROWS * this.width);
    while (to.rows < size) {
      const room = block.subarray(0, Math.min(BLOCK_ROWS, size - to.rows) * this.width);
      const taken = await this.source.fill(room);
      to.append(room.subarray(0, taken * this.width), size - to.rows);
      if (taken * this.width < room.length) return;
    }
  }

  #mix(file: RowFile, refill: number): void {
    const { batch, seed } = this.choice;
    const end = this.#ended ? file.rows - (file.rows % batch) : this.#half;
    this.#rows = new MixedRows(file, seed, refill, end);
  }

  #settings() {
    const { batch, seed } = this.choice;
    return { vectors: 2 * this.#half, batch, seed, width: this.width };
  }

  #file(refill: number): string {
    return join(this.folder, `rows-${refill}.f32`);
  }

  /** Files of neither this refill nor the last checkpoint's. */
  #removeOthers(): void {
    const needed = [this.#rows?.refill, this.#checkpoint];
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
