import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { SetupError } from "../../runtime/contract/errors.js";
import { Checkpoints } from "./checkpoints.js";
import { holdFolder } from "./held-folder.js";

/** The folder that an SAE is trained into: what the run needs for itself lies in a folder of its own in it until it ends. */
export class RunFolder implements Disposable {
  readonly checkpoints: Checkpoints;
  #held: Disposable | undefined;

  private constructor(readonly path: string) {
    this.checkpoints = new Checkpoints(this.running);
  }

  /**
   * @param resume whether an unfinished run goes on
   * @throws SetupError where it is not empty, there is no run to go on with, or another process trains in it
   */
  static open(path: string, resume: boolean): RunFolder {
    const names = existsSync(path) ? contents(path) : [];
    const folder = new RunFolder(path);
    const isUnfinished = names.includes(RUNNING);
    if (isUnfinished && names.includes("cfg.json") && folder.checkpoints.last === null)
      throw new SetupError(
        `${path} holds an SAE that is whole: its run was killed while features were described. Remove ${folder.running}; lab eval --features describes them`,
      );
    if (resume && folder.checkpoints.last === null)
      throw new SetupError(
        isUnfinished
          ? `the run in ${path} had no checkpoint yet: remove the folder, and start anew without --resume`
          : `there is no unfinished run in ${path} to resume`,
      );
    if (!resume && isUnfinished)
      throw new SetupError(
        `${path} holds an unfinished run: --resume goes on with it; else remove it or say another --out`,
      );
    if (!resume && names.length > 0) throw new SetupError(`${path} is not empty: say another --out, or empty it`);
    folder.#held = holdFolder(folder.running);
    return folder;
  }

  /** Others may go on with the run. */
  [Symbol.dispose](): void {
    this.#held?.[Symbol.dispose]();
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** What the run needs for itself. */
  get running(): string {
    return join(this.path, RUNNING);
  }

  get rows(): string {
    return join(this.running, "rows");
  }

  /** The run is at its end: what it needed goes. */
  finish(): void {
    rmSync(this.running, { recursive: true, force: true });
  }

  /** The run has ended and cannot be resumed: what it wrote goes, so that the folder can be used again. A whole SAE stays. */
  abandon(): void {
    this.finish();
    if (!existsSync(this.file("cfg.json"))) for (const name of BEFORE_THE_SAE) rmSync(this.file(name), { force: true });
  }
}

const RUNNING = "training";
/** Files that are written before cfg.json, which makes an SAE of the folder. */
const BEFORE_THE_SAE = ["curve.jsonl", "training.json", "curves.svg", "sae_weights.safetensors"] as const;

function contents(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    throw new SetupError(`${path} cannot be read as a folder: ${error instanceof Error ? error.message : error}`);
  }
}
