import type { JsonObject } from "../../models/model-file.js";

/** Activations of a hook, a row [width] for each token. */
export interface ActivationSource {
  readonly width: number;
  /** Writes rows; returns how many, which are fewer than `into` has room for only where the text is at its end. */
  fill(into: Float32Array): Promise<number>;
  /** Where it is: a source that is opened with it goes on with the same rows. */
  state(): JsonObject;
}
