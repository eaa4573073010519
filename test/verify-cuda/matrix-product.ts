import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GraphBuilder } from "../../models/onnx/graph.js";
import { Binding } from "../../runtime/ort/binding.js";
import type { Device } from "../../runtime/ort/device.js";
import type { ElementType } from "../../runtime/ort/elements.js";
import { Session } from "../../runtime/ort/session.js";
import type { Tensor } from "../../runtime/ort/tensor.js";
import { randomTensor } from "./random-tensor.js";

/** [rows, inner] x [inner, columns]. */
export interface ProductSizes {
  readonly rows: number;
  readonly inner: number;
  readonly columns: number;
}

/** One MatMul of ONNX Runtime over random numbers on a device: what that device can do. */
export class MatrixProduct implements Disposable {
  readonly #owned: Disposable[] = [];
  readonly #binding: Binding;

  constructor(
    device: Device,
    type: ElementType,
    readonly sizes: ProductSizes,
    folder: string,
  ) {
    const { rows, inner, columns } = sizes;
    const graph = new GraphBuilder();
    const factors = [graph.input("x", type, [rows, inner]), graph.input("w", type, [inner, columns])];
    graph.output(graph.op("MatMul", factors, {}, "y"), type, [rows, columns]);
    mkdirSync(folder, { recursive: true });
    const path = join(folder, `product-${type}-${rows}x${inner}x${columns}.onnx`);
    writeFileSync(path, graph.serialize("product"));
    try {
      const session = this.#own(Session.load(path, { threads: 1, device }));
      const x = this.#own(randomTensor(device, type, [rows, inner], 1));
      const w = this.#own(randomTensor(device, type, [inner, columns], 0.03));
      const y = this.#own<Tensor>(device.zeros(type, [rows, columns]));
      const inputs = new Map([
        ["x", x],
        ["w", w],
      ]);
      this.#binding = this.#own(new Binding(session, inputs, new Map([["y", y]])));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Asks for one product; what a GPU computes is waited for elsewhere. */
  run(): void {
    this.#binding.run();
  }

  get operations(): number {
    return 2 * this.sizes.rows * this.sizes.inner * this.sizes.columns;
  }

  [Symbol.dispose](): void {
    for (const each of this.#owned) each[Symbol.dispose]();
  }

  #own<Owned extends Disposable>(each: Owned): Owned {
    this.#owned.unshift(each);
    return each;
  }
}
