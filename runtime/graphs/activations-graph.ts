import type { CompiledGraph } from "../../models/compile.js";
import { type ActivationsInterface, BATCH, TOKENS } from "../../models/graph-interface.js";
import { Session } from "../ort/session.js";
import type { GraphResources } from "./graph-resources.js";
import { GraphTensors } from "./graph-tensors.js";
import { type Residuals, readTaps } from "./tap-outputs.js";

/** The graph that gives what hooks hold in whole texts. */
export class ActivationsGraph implements Disposable {
  readonly #session: Session;
  readonly #resources: GraphResources;
  readonly #names: ActivationsInterface;

  constructor(resources: GraphResources, graph: CompiledGraph<ActivationsInterface>) {
    this.#resources = resources;
    this.#names = graph.interface;
    const { tensors: weights } = resources.weights;
    this.#session = Session.load(graph.path, {
      ...resources,
      replays: false,
      weights,
      prepack: resources.device.isHost,
    });
  }

  /** Of texts of one length: [texts * tokens, width of the hook] each, text after text. */
  run(texts: readonly ArrayLike<number>[]): Residuals {
    const names = this.#names;
    const length = texts[0]?.length ?? 0;
    if (texts.some((ids) => ids.length !== length)) throw new RangeError("texts that run together have one length");
    const places = Array.from({ length }, (_, i) => i);
    using tensors = new GraphTensors(this.#resources.device, names.signature, [
      [BATCH, texts.length],
      [TOKENS, length],
    ]);
    tensors.complete();
    tensors.write(names.places, places);
    for (const [i, ids] of texts.entries()) {
      tensors.write(names.ids, ids, i * length);
      if (names.positions !== null) tensors.write(names.positions, places, i * length);
      for (const [g, { rotary }] of names.geometries.entries())
        if (rotary !== null)
          this.#resources.rotary[g]?.write(tensors.input(rotary.cos), tensors.input(rotary.sin), i, places);
    }
    using binding = tensors.binding(this.#session);
    tensors.send();
    binding.run();
    const residuals: Residuals = new Map();
    readTaps(names.taps, tensors, residuals, { first: 0, rows: texts.length * length });
    return residuals;
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
  }
}
