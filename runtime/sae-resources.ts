import type { CompiledSae } from "../models/sae/compile-sae.js";
import type { SaeGraph } from "../models/sae/sae-graphs.js";
import { Session } from "./ort/session.js";
import type { Tensor } from "./ort/tensor.js";
import { openWeights, type Weights } from "./weights.js";

export interface SaeReaderOptions {
  /** Those of the model's graphs, so that the threads themselves are shared. */
  readonly threads: number;
  readonly spin?: boolean;
}

/** The weights and graphs of one SAE; graphs are loaded when they are first needed. */
export class SaeResources implements Disposable {
  readonly #weights: Weights;
  readonly #sessions = new Map<string, Session>();

  constructor(
    readonly sae: CompiledSae,
    readonly options: SaeReaderOptions,
  ) {
    this.#weights = openWeights(sae.weights);
  }

  /** Weights as they lie in the file. */
  weight(name: string): Tensor {
    const tensor = this.#weights.tensors.get(name);
    if (tensor === undefined) throw new RangeError(`${this.sae.weights.path} has no ${name}`);
    return tensor;
  }

  /** @param prepack as of `SessionOptions` */
  session(which: SaeGraph, prepack: boolean): Session {
    const key = `${which}${prepack}`;
    const known = this.#sessions.get(key);
    if (known !== undefined) return known;
    const { path, weights: names } = this.sae.graphs[which];
    const weights = new Map(names.map((name) => [name, this.weight(name)]));
    const session = Session.load(path, { ...this.options, weights, prepack });
    if (prepack) this.#weights.forgetPages();
    this.#sessions.set(key, session);
    return session;
  }

  [Symbol.dispose](): void {
    for (const session of this.#sessions.values()) session[Symbol.dispose]();
    this.#weights[Symbol.dispose]();
  }
}
