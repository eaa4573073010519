import type { CompiledGraph } from "../../models/compile.js";
import { type LensInterface, WANTED } from "../../models/graph-interface.js";
import type { Device } from "../ort/device.js";
import { Session } from "../ort/session.js";
import type { GraphResources } from "./graph-resources.js";
import { GraphTensors } from "./graph-tensors.js";

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
  run(direction: Float32Array): Float32Array {
    using tensors = new GraphTensors(this.#device, this.#names.signature, [[WANTED, 1]]);
    tensors.complete();
    tensors.write(this.#names.directions, direction);
    tensors.send();
    using binding = tensors.binding(this.#session);
    binding.run();
    const logits = tensors.output(this.#names.logits);
    return logits.read(new Float32Array(logits.size));
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}
