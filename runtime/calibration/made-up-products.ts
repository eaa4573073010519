import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MatrixProducts } from "../../models/matrix-products.js";
import { GraphBuilder } from "../../models/onnx/graph.js";
import type { Precision } from "../../models/weights/block-format.js";
import { WeightPlan } from "../../models/weights/weight-plan.js";
import { Binding } from "../ort/binding.js";
import { PrepackedWeights, Session } from "../ort/session.js";
import { Tensor } from "../ort/tensor.js";

/** Scale of all weights, so that rows keep about their size. */
const SCALE = 2 ** -11;
const WEIGHTS = "weights.bin";

/** Products with matrices of made-up codes, one behind the other, on one thread: to try a processor's kernels. */
export class MadeUpProducts implements Disposable {
  readonly #weights: Tensor;
  readonly #tensors = new Map<string, Tensor>();
  readonly #packed = new PrepackedWeights();
  readonly #session: Session;
  readonly #input: string;
  readonly #output: string;

  /**
   * @param sizes inputs of the first matrix, outputs of it, which are the inputs of the second, and so on
   * @param code of a matrix [inputs, outputs] or [outputs, inputs], as it lies in memory: byte i
   */
  constructor(
    precision: Precision,
    readonly sizes: readonly number[],
    code: (i: number, width: number) => number,
  ) {
    const graph = new GraphBuilder();
    const plan = new WeightPlan();
    const products = new MatrixProducts(graph, plan, { precision, dtypes: new Map(), weightsFile: WEIGHTS }, true);
    this.#input = graph.input("x", "float32", ["rows", 1, sizes[0] ?? 0]);
    let x = this.#input;
    for (const [i, columns] of sizes.slice(0, -1).entries())
      x = products.sideBySide(x, [{ tensor: `m${i}`, shape: [sizes[i + 1] ?? 0, columns] }], columns);
    this.#output = graph.output(x, "float32", ["rows", 1, sizes.at(-1) ?? 0]);
    this.#weights = Tensor.untouched("uint8", [plan.bytes]);
    try {
      for (const [name, { type, shape, offset }] of plan.places) {
        const tensor = Tensor.over(this.#weights.backing(), offset, type, shape);
        this.#tensors.set(name, tensor);
        if (type === "float32") tensor.fill(SCALE);
        else tensor.write(codesOf(tensor.size, shape.at(-1) ?? 1, code));
      }
      this.#session = load(graph, { weights: this.#tensors, prepacked: this.#packed });
    } catch (error) {
      this.#freeWeights();
      throw error;
    }
  }

  /** @param x [rows, inputs] */
  run(x: Float32Array): Float32Array {
    using bound = this.#bind(x);
    bound.run();
    return bound.output.read(new Float32Array(bound.output.size));
  }

  /** Milliseconds of one run, the best of several. */
  milliseconds(x: Float32Array, runs: number): number {
    using bound = this.#bind(x);
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < runs; i++) {
      const began = performance.now();
      bound.run();
      best = Math.min(best, performance.now() - began);
    }
    return best;
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]();
    this.#freeWeights();
  }

  #freeWeights(): void {
    for (const each of [this.#packed, ...this.#tensors.values(), this.#weights]) each[Symbol.dispose]();
  }

  #bind(x: Float32Array): { readonly output: Tensor; run(): void } & Disposable {
    const [inputs = 0, outputs = 0] = [this.sizes[0], this.sizes.at(-1)];
    const rows = x.length / inputs;
    const input = Tensor.zeros("float32", [rows, 1, inputs]);
    const output = Tensor.zeros("float32", [rows, 1, outputs]);
    input.write(x);
    const binding = new Binding(this.#session, new Map([[this.#input, input]]), new Map([[this.#output, output]]));
    return {
      output,
      run: () => binding.run(),
      [Symbol.dispose]() {
        for (const each of [binding, input, output]) each[Symbol.dispose]();
      },
    };
  }
}

function codesOf(count: number, width: number, code: (i: number, width: number) => number): Uint8Array {
  const codes = new Uint8Array(count);
  for (let i = 0; i < count; i++) codes[i] = code(i, width);
  return codes;
}

function load(
  graph: GraphBuilder,
  options: { readonly weights: ReadonlyMap<string, Tensor>; readonly prepacked: PrepackedWeights },
): Session {
  const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
  try {
    const path = join(folder, "products.onnx");
    writeFileSync(path, graph.serialize("products"));
    writeFileSync(join(folder, WEIGHTS), ""); // its bytes are given below, but ONNX Runtime looks whether it is there
    return Session.load(path, { ...options, threads: 1, prepack: true });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
