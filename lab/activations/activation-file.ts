import { existsSync, renameSync, rmSync } from "node:fs";
import { SetupError } from "../../runtime/contract/errors.js";
import type { ActivationSource } from "./activation-source.js";
import { permutation } from "./permutation.js";
import { BLOCK_ROWS, RowFile } from "./row-file.js";

/** Activations of a hook in one file, so that many trainings can have the same. */
export class ActivationFile implements Disposable {
  private constructor(private readonly file: RowFile) {}

  /**
   * The file at `path`; where there is none, it is written first, and appears when it is whole.
   * @param rows that are taken of the source, or fewer where its text is at its end
   * @param source is asked for only where there is no file
   * @throws SetupError where it cannot be written or read, or the text has no rows
   */
  static async open(
    path: string,
    width: number,
    rows: number,
    source: () => Promise<ActivationSource>,
    onProgress: (share: number) => void = () => {},
  ): Promise<ActivationFile> {
    if (!existsSync(path)) await write(path, await source(), rows, onProgress);
    return new ActivationFile(RowFile.open(path, width));
  }

  get rows(): number {
    return this.file.rows;
  }

  /** The first rows, [rows, width]. @param most of them */
  first(most: number): Float32Array {
    const rows = new Float32Array(Math.min(most, this.rows) * this.file.width);
    this.file.read(0, rows);
    return rows;
  }

  /** Batches of all rows in an order that the seed decides, again and again, each time in another. */
  batches(batch: number, seed: number): { next(into: Float32Array): Promise<boolean> } {
    let round = 0;
    let order = permutation(this.rows, seed, round);
    let at = 0;
    return {
      next: async (into) => {
        if (at + batch > order.length) {
          order = permutation(this.rows, seed, ++round);
          at = 0;
        }
        if (batch > order.length) return false;
        this.file.gather(order.subarray(at, at + batch), into);
        at += batch;
        return true;
      },
    };
  }

  [Symbol.dispose](): void {
    this.file[Symbol.dispose]();
  }
}

async function write(
  path: string,
  source: ActivationSource,
  rows: number,
  onProgress: (share: number) => void,
): Promise<void> {
  const unfinished = `${path}.new`;
  try {
    using file = RowFile.create(unfinished, source.width);
    const block = new Float32Array(BLOCK_ROWS * source.width);
    while (file.rows < rows) {
      const asked = block.subarray(0, Math.min(BLOCK_ROWS, rows - file.rows) * source.width);
      const filled = await source.fill(asked);
      file.append(asked.subarray(0, filled * source.width), rows - file.rows);
      onProgress(file.rows / rows);
      if (filled * source.width < asked.length) break;
    }
    if (file.rows === 0) throw new SetupError(`${path} would hold no activations: the text has none`);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
  renameSync(unfinished, path);
}
