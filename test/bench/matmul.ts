import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GraphBuilder } from "../../models/onnx/graph.js";
import { Binding } from "../../runtime/ort/binding.js";
import { Session } from "../../runtime/ort/session.js";
import { Tensor } from "../../runtime/ort/tensor.js";
import { benchFolder } from "./bench-model.js";

/** One f32 MatMul [rows, inner] x [inner, columns] of ONNX Runtime, weights constant: what this machine can do. */
export class MatMul implements Disposable {
  readonly #owned: Disposable[] = [];
  readonly #binding: Binding;

  constructor(
    readonly rows: number,
    readonly inner: number,
    readonly columns: number,
    threads: number,
  ) {
    const folder = benchFolder("matmul");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "weights.bin"), "");
    const graph = new GraphBuilder();
    graph.input("x", "float32", [rows, inner]);
    const place = { type: "float32", shape: [inner, columns], offset: 0, bytes: inner * columns * 4 } as const;
    graph.op("MatMul", ["x", graph.weight("w", place, "weights.bin")], {}, "y");
    graph.output("y", "float32", [rows, columns]);
    const path = join(folder, `${rows}x${inner}x${columns}.onnx`);
    writeFileSync(path, graph.serialize("matmul"));
    const own = <T extends Disposable>(each: T): T => {
      this.#owned.unshift(each);
      return each;
    };
    const memory = own(Tensor.zeros("float32", [inner, columns]));
    memory.fill(0.01);
    const weights = new Map([["w", own(memory.alias([inner, columns]))]]);
    const session = own(Session.load(path, { threads, weights, prepack: true }));
    const x = own(Tensor.zeros("float32", [rows, inner]));
    x.fill(1);
    const y = own(Tensor.zeros("float32", [rows, columns]));
    this.#binding = own(new Binding(session, new Map([["x", x]]), new Map([["y", y]])));
  }

  run(): void {
    this.#binding.run();
  }

  get weightBytes(): number {
    return this.inner * this.columns * 4;
  }

  get operations(): number {
    return 2 * this.rows * this.inner * this.columns;
  }

  [Symbol.dispose](): void {
    for (const each of this.#owned) each[Symbol.dispose]();
  }
}
