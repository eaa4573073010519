import type { CompiledGraph } from "../../models/compile.js";
import type { LensInterface } from "../../models/graph-interface.js";
import { Binding } from "../ort/binding.js";
import type { Device } from "../ort/device.js";
import { Session } from "../ort/session.js";
import type { GraphResources } from "./graph-resources.js";

/** The graph that maps directions in a model's residual stream to logits. */
export class LensGraph implements Disposable {
  readonly #session: Session;
  readonly #names: LensInterface;
  readonly #device: Device;

  constructor(resources: GraphResources, graph: CompiledGraph<LensInterface>) {
    this.#device = resources.device;
    this.#names = graph.interface;
    const needed = new Set(graph.interface.weights);
    const weights = new Map([...resources.weights.tensors].filter(([name]) => needed.has(name)));
    const prepack = resources.prepacked !== undefined;
    this.#session = Session.load(graph.path, { ...resources, replays: false, weights, prepack });
  }

  /** Logits [vocabSize] that the direction [hiddenSize] adds. */
  run(direction: Float32Array, vocabSize: number): Float32Array {
    using input = this.#device.zeros("float32", [1, direction.length]);
    using output = this.#device.zeros("float32", [1, vocabSize]);
    input.write(direction);
    using binding = new Binding(
      this.#session,
      new Map([[this.#names.directions, input]]),
      new Map([[this.#names.logits, output]]),
    );
    binding.run();
    return output.read(new Float32Array(vocabSize));
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}
