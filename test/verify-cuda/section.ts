import type { CudaDevice } from "../../runtime/ort/cuda-device.js";
import type { Ceilings } from "./ceilings.js";
import type { Findings } from "./findings.js";

/** What every section works with. */
export interface Bench {
  readonly device: CudaDevice;
  /** What this GPU reaches, measured when it is first asked for. */
  readonly ceilings: Ceilings;
  /** Fewer cases and steps. */
  readonly quick: boolean;
  /** Shapes of a few layers, on which figures mean nothing: to try the command itself. */
  readonly tiny: boolean;
  /** Where models are compiled to. */
  readonly cacheRoot: string;
  /** Where files with random weights lie. */
  readonly scratch: string;
  /** Whether the time for all sections is up: what is left of a section is then not run. */
  expired(): boolean;
}

/** A part of the verification. */
export interface Section {
  readonly name: string;
  /** In a sentence, for the report. */
  readonly about: string;
  run(bench: Bench, findings: Findings): void | Promise<void>;
}
