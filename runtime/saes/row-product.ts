import { Binding } from "../ort/binding.js";
import type { Tensor } from "../ort/tensor.js";
import { roundedRows } from "./row-reading.js";
import type { SaeResources } from "./sae-resources.js";

const NAMES = {
  encode: { input: "input", output: "products" },
  decode: { input: "activations", output: "sums" },
} as const;

/**
 * Some rows times one of an SAE's matrices, in memory that grows to the most rows there were. The matrix is read where it
 * lies in the file, or a packed copy is made of it, which takes as much memory again. With such a copy a row's products are
 * the same bits in every number of rows.
 */
export class RowProduct implements Disposable {
  readonly #resources: SaeResources;
  readonly #graph: keyof typeof NAMES;
  readonly #widths: { readonly input: number; readonly output: number };
  #capacity = 0;
  /** [capacity, width of the input] */
  #input: Tensor | undefined;
  /** [capacity, width of the output] */
  #output: Tensor | undefined;
  /** By number of rows, over the beginnings of these. */
  readonly #bindings = new Map<number, Binding>();

  /** @param packedFrom rows from which on there is a packed copy; in 8 bits there is nothing else, so 1 */
  constructor(
    resources: SaeResources,
    graph: keyof typeof NAMES,
    private readonly packedFrom: number,
  ) {
    const { dIn, dSae, dOut } = resources.sae.description;
    this.#resources = resources;
    this.#graph = graph;
    this.#widths = graph === "encode" ? { input: dIn, output: dSae } : { input: dSae, output: dOut };
  }

  /** Makes room. What was there is lost where there is too little. */
  reserve(rows: number): void {
    if (rows <= this.#capacity) return;
    this[Symbol.dispose]();
    this.#capacity = 2 ** Math.ceil(Math.log2(rows));
    const { device } = this.#resources;
    this.#input = device.zeros("float32", [this.#capacity, this.#widths.input]);
    this.#output = device.zeros("float32", [this.#capacity, this.#widths.output]);
  }

  /** Sets a row that was reserved. */
  write(row: number, values: Float32Array | Float64Array): void {
    this.#input?.write(values, row * this.#widths.input);
  }

  /** Multiplies the first `rows`. */
  run(rows: number): void {
    this.#binding(roundedRows(rows)).run();
  }

  /** Copies a row of the product to `out`. */
  read(row: number, out: Float32Array): void {
    this.#output?.read(out, row * this.#widths.output);
  }

  [Symbol.dispose](): void {
    // Bindings hold a reference to the tensors, so they go first.
    for (const each of this.#bindings.values()) each[Symbol.dispose]();
    this.#bindings.clear();
    this.#input?.[Symbol.dispose]();
    this.#output?.[Symbol.dispose]();
    this.#capacity = 0;
  }

  #binding(rows: number): Binding {
    const known = this.#bindings.get(rows);
    if (known !== undefined) return known;
    if (this.#input === undefined || this.#output === undefined) throw new RangeError(`${rows} rows are not reserved`);
    const session = this.#resources.session(this.#graph, rows >= this.packedFrom);
    using input = this.#input.alias([rows, this.#widths.input]);
    using output = this.#output.alias([rows, this.#widths.output]);
    const names = NAMES[this.#graph];
    // The binding holds what is bound.
    const binding = new Binding(session, new Map([[names.input, input]]), new Map([[names.output, output]]));
    this.#bindings.set(rows, binding);
    return binding;
  }
}
