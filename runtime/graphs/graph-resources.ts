import type { CompiledModel } from "../../models/compile.js";
import type { CuttingSae } from "../../models/sae/edit-cut.js";
import type { Device } from "../ort/device.js";
import type { PrepackedWeights } from "../ort/session.js";
import type { Tensor } from "../ort/tensor.js";
import type { Weights } from "../ort/weights.js";
import type { RotaryTable } from "./rotary-table.js";

/** An SAE whose own cut edits can ask for. */
export interface PlacedSae extends CuttingSae {
  /** One of its weights, where graphs run. */
  weight(name: string): Tensor;
}

/** What all graphs of one model share. */
export interface GraphResources {
  readonly model: CompiledModel;
  /** Where they run. */
  readonly device: Device;
  readonly weights: Weights;
  /** undefined: weights are read as they lie. Kernels of float16 can pack theirs, but not share what they have packed. */
  readonly prepacked: PrepackedWeights | undefined;
  readonly cuttingSaes: readonly PlacedSae[];
  /** One per geometry. */
  readonly rotary: readonly (RotaryTable | null)[];
  /** Whether decode steps are recorded and replayed, where the device can. */
  readonly replays: boolean;
  readonly threads: number;
  readonly spin: boolean;
}
