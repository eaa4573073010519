import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Binding } from "../../runtime/ort/binding.js";
import type { Device } from "../../runtime/ort/device.js";
import { Session } from "../../runtime/ort/session.js";
import type { Tensor } from "../../runtime/ort/tensor.js";
import { next, type StepGraph } from "./step-graph.js";

/** A graph of the step, loaded and bound to both turns of a state. */
export class StepSession implements Disposable {
  readonly #session: Session;
  readonly #bindings: readonly [Binding, Binding];

  /**
   * @param tensors what the graph reads and writes beside the state, by name
   * @param sets those of the state; where an output is the `next` of one, a turn writes it into the other set
   */
  constructor(
    graph: StepGraph,
    options: { readonly device: Device; readonly threads: number },
    tensors: ReadonlyMap<string, Tensor>,
    sets: readonly [ReadonlyMap<string, Tensor>, ReadonlyMap<string, Tensor>],
  ) {
    this.#session = load(graph, options);
    const bound = (read: ReadonlyMap<string, Tensor>, written: ReadonlyMap<string, Tensor>) => {
      const following = new Map([...written].map(([name, tensor]) => [next(name), tensor]));
      const pick = (names: Iterable<string>, from: readonly ReadonlyMap<string, Tensor>[]) =>
        new Map(Array.from(names, (name) => [name, found(name, from)] as const));
      return new Binding(
        this.#session,
        pick(graph.signature.inputs.keys(), [read, tensors]),
        pick(graph.signature.outputs.keys(), [following, tensors]),
      );
    };
    this.#bindings = [bound(sets[0], sets[1]), bound(sets[1], sets[0])];
  }

  /** Reads the state of this set. */
  run(set: 0 | 1): void {
    this.#bindings[set].run();
  }

  [Symbol.dispose](): void {
    for (const each of [...this.#bindings, this.#session]) each[Symbol.dispose]();
  }
}

function found(name: string, from: readonly ReadonlyMap<string, Tensor>[]): Tensor {
  const tensor = from.map((map) => map.get(name)).find((each) => each !== undefined);
  if (tensor === undefined) throw new RangeError(`nothing is bound to ${name}`);
  return tensor;
}

function load({ name, bytes }: StepGraph, options: { readonly device: Device; readonly threads: number }): Session {
  const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
  try {
    const path = join(folder, `${name}.onnx`);
    writeFileSync(path, bytes);
    // Threads that spin after a run would be in the way of those that cut its rows.
    return Session.load(path, { ...options, spin: false });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
