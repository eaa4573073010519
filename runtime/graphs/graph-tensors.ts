import type { GraphSignature, OpenSize, TensorSpec } from "../../models/onnx/graph.js";
import { rowSize } from "../cache/cache-buffers.js";
import { Binding } from "../ort/binding.js";
import type { Device, RunInputs } from "../ort/device.js";
import type { Session } from "../ort/session.js";
import { Tensor } from "../ort/tensor.js";

/**
 * The tensors of one kind of run of a graph, in the types and shapes that the graph's signature states. What the caller does
 * not bind itself, `complete` makes. All of them are freed together.
 */
export class GraphTensors implements Disposable {
  /** What the run makes of the sizes that the graph leaves open; all that a tensor needs are there before it is made. */
  readonly sizes: Map<OpenSize, number>;
  readonly #device: Device;
  readonly #signature: GraphSignature;
  readonly #written: RunInputs;
  readonly #inputs = new Map<string, Tensor>();
  readonly #outputs = new Map<string, Tensor>();

  constructor(device: Device, signature: GraphSignature, sizes: Iterable<readonly [OpenSize, number]>) {
    this.sizes = new Map(sizes);
    this.#device = device;
    this.#signature = signature;
    this.#written = device.inputs();
  }

  /**
   * Binds a tensor to an input, and to outputs that a run writes into the same memory. From then on it is freed with the
   * others.
   * @throws RangeError where it has another type or shape than the graph's
   */
  bind(name: string, tensor: Tensor, outputs: readonly string[] = []): void {
    this.#inputs.set(name, tensor);
    for (const output of outputs) this.#outputs.set(output, tensor);
    for (const spec of [this.#input(name), ...outputs.map((output) => this.#output(output))]) {
      const [own, wanted] = [`${tensor.type}[${tensor.shape}]`, `${spec.type}[${this.#shapeOf(spec)}]`];
      if (own !== wanted) throw new RangeError(`${spec.name} is ${wanted} in the graph, not ${own}`);
    }
  }

  /** The same with the part of a buffer [rows, ...] that begins at its row `first`. */
  bindRows(name: string, buffer: Tensor | null | undefined, first: number, outputs: readonly string[] = []): void {
    if (!buffer) throw new RangeError(`there is no buffer for ${name}`);
    const [rows = 1] = this.#shapeOf(this.#input(name));
    this.bind(name, rowsOf(buffer, first, rows), outputs);
  }

  /** A zeroed tensor for an input that is written once, however many runs there are. */
  once(name: string): Tensor {
    const tensor = this.#zeros(this.#input(name), this.#device);
    this.#inputs.set(name, tensor);
    return tensor;
  }

  /** One zeroed tensor for outputs of one shape, each of which is made of the one before. */
  share(outputs: readonly string[]): void {
    const [first] = outputs;
    if (first === undefined) return;
    const tensor = this.#zeros(this.#output(first), this.#device);
    for (const output of outputs) this.#outputs.set(output, tensor);
  }

  /** Makes a zeroed tensor for each input that has none, to be written before runs, and for each output that is not left out. */
  complete(leftOut: readonly string[] = []): void {
    const { inputs, outputs } = this.#signature;
    for (const [name, spec] of inputs)
      if (!this.#inputs.has(name)) this.#inputs.set(name, this.#zeros(spec, this.#written));
    for (const [name, spec] of outputs)
      if (!this.#outputs.has(name) && !leftOut.includes(name)) this.#outputs.set(name, this.#zeros(spec, this.#device));
  }

  /** What a run of the session reads and writes; made when the tensors are complete. */
  binding(session: Session): Binding {
    return new Binding(session, this.#inputs, this.#outputs);
  }

  input(name: string): Tensor {
    const tensor = this.#inputs.get(name);
    if (tensor === undefined) throw new RangeError(`nothing is bound to the input ${name}`);
    return tensor;
  }

  output(name: string): Tensor {
    const tensor = this.#outputs.get(name);
    if (tensor === undefined) throw new RangeError(`nothing is bound to the output ${name}`);
    return tensor;
  }

  /** Writes an input, from element `offset` on. */
  write(name: string, values: ArrayLike<number>, offset = 0): void {
    this.input(name).write(values, offset);
  }

  /** Brings what was written to where the graph reads it, before each run. */
  send(): void {
    this.#written.send();
  }

  [Symbol.dispose](): void {
    for (const tensor of new Set([...this.#inputs.values(), ...this.#outputs.values()])) tensor[Symbol.dispose]();
    this.#written[Symbol.dispose]();
  }

  #input(name: string): TensorSpec {
    return this.#known(this.#signature.inputs.get(name), name);
  }

  #output(name: string): TensorSpec {
    return this.#known(this.#signature.outputs.get(name), name);
  }

  #known(spec: TensorSpec | undefined, name: string): TensorSpec {
    if (spec === undefined) throw new RangeError(`the graph has no ${name}`);
    return spec;
  }

  #zeros(spec: TensorSpec, where: Pick<Device | RunInputs, "zeros">): Tensor {
    const shape = this.#shapeOf(spec);
    return spec.onHost ? Tensor.zeros(spec.type, shape) : where.zeros(spec.type, shape);
  }

  #shapeOf({ name, shape }: TensorSpec): number[] {
    return shape.map((size) => {
      const known = typeof size === "number" ? size : this.sizes.get(size);
      if (known === undefined) throw new RangeError(`nobody says how large ${size} is, a size of ${name} [${shape}]`);
      return known;
    });
  }
}

/** Rows [first, first + rows) of a tensor [all rows, ...], over its memory. */
export const rowsOf = (tensor: Tensor, first: number, rows: number): Tensor =>
  tensor.alias([rows, ...tensor.shape.slice(1)], first * rowSize(tensor));
