import type { CompiledSae } from "../../models/sae/compile-sae.js";
import type { SaeGraph } from "../../models/sae/sae-graphs.js";
import { CPU, type Device } from "../ort/device.js";
import { Session } from "../ort/session.js";
import type { Tensor } from "../ort/tensor.js";
import { openWeights, type Weights } from "../ort/weights.js";

export interface SaeReaderOptions {
  /** Those of the model's graphs, so that the threads themselves are shared. */
  readonly threads: number;
  readonly spin?: boolean;
  /** Where it is read; default: the CPU. */
  readonly device?: Device;
  /** Readings of a few rows are recorded and replayed, where the device can (CUDA graphs). */
  readonly replays?: boolean;
}

/** The weights and graphs of one SAE; graphs are loaded when they are first needed. */
export class SaeResources implements Disposable {
  /** Over the file, and where graphs read them: the same on the CPU. */
  readonly #stored: Weights;
  readonly #weights: Weights;
  readonly #sessions = new Map<string, Session>();

  constructor(
    readonly sae: CompiledSae,
    readonly options: SaeReaderOptions,
  ) {
    this.#stored = openWeights(sae.weights);
    this.#weights = this.device.isHost ? this.#stored : openWeights(sae.weights, this.device);
  }

  get device(): Device {
    return this.options.device ?? CPU;
  }

  get replays(): boolean {
    return this.options.replays === true && !this.device.isHost;
  }

  /** Weights as they lie in the file. */
  weight(name: string): Tensor {
    return this.#of(this.#stored, name);
  }

  /** Weights where graphs read them. */
  placed(name: string): Tensor {
    return this.#of(this.#weights, name);
  }

  #of({ tensors }: Weights, name: string): Tensor {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new RangeError(`${this.sae.weights.path} has no ${name}`);
    return tensor;
  }

  /** @param prepack as of `SessionOptions`; @param replays likewise */
  session(which: SaeGraph, prepack: boolean, replays = false): Session {
    const key = `${which}${prepack}${replays}`;
    const known = this.#sessions.get(key);
    if (known !== undefined) return known;
    const { path, weights: names } = this.sae.graphs[which];
    const weights = new Map(names.map((name) => [name, this.#of(this.#weights, name)]));
    const session = Session.load(path, { ...this.options, weights, prepack, replays });
    if (prepack) this.#weights.forgetPages();
    this.#sessions.set(key, session);
    return session;
  }

  [Symbol.dispose](): void {
    for (const session of this.#sessions.values()) session[Symbol.dispose]();
    this.#weights[Symbol.dispose]();
    if (this.#stored !== this.#weights) this.#stored[Symbol.dispose]();
  }
}
