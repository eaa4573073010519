import type { StepConfig } from "../../lab/step/step-config.js";
import { StepGraphBuilder } from "../../lab/step/step-graph.js";
import { StepSession } from "../../lab/step/step-session.js";
import { CPU } from "../../runtime/ort/device.js";
import { Tensor } from "../../runtime/ort/tensor.js";

/** The matrix products of a training step and nothing else: 10 d h operations a row, 16 where features are dead. */
export class StepFloor implements Disposable {
  readonly #tensors = new Map<string, Tensor>();
  readonly #session: StepSession;
  readonly operations: number;

  constructor(config: StepConfig, { threads, dead }: { readonly threads: number; readonly dead: boolean }) {
    const { dIn, dSae, batch } = config;
    const step = new StepGraphBuilder(config, false);
    const input = (name: string, shape: readonly number[]) => {
      this.#tensor(name, shape);
      return step.input(name, shape);
    };
    const output = (name: string, value: string, shape: readonly number[]) => {
      this.#tensor(name, shape);
      step.output(name, value, shape);
    };
    const [wEnc, wDec] = [input("W_enc", [dIn, dSae]), input("W_dec", [dSae, dIn])];
    const [x, e] = [input("x", [batch, dIn]), input("e", [batch, dIn])];
    const [f, g] = [input("f", [batch, dSae]), input("g", [batch, dSae])];
    output("encoded", step.product(x, wEnc), [batch, dSae]);
    for (const [of, name] of dead
      ? ([
          [f, "kept"],
          [g, "dead"],
        ] as const)
      : ([[f, "kept"]] as const)) {
      output(`${name}.decoded`, step.product(of, wDec), [batch, dIn]);
      output(`${name}.activations`, step.product(e, wDec, { transposed: "b" }), [batch, dSae]);
      output(`${name}.W_dec`, step.product(of, e, { transposed: "a" }), [dSae, dIn]);
    }
    output("W_enc.gradient", step.product(x, g, { transposed: "a" }), [dIn, dSae]);
    const state = [new Map<string, Tensor>(), new Map<string, Tensor>()] as const;
    this.#session = new StepSession(step.finish("floor"), { device: CPU, threads }, this.#tensors, state);
    this.operations = (dead ? 16 : 10) * dIn * dSae * batch;
  }

  run(): void {
    this.#session.run(0);
  }

  [Symbol.dispose](): void {
    for (const each of [this.#session, ...this.#tensors.values()]) each[Symbol.dispose]();
  }

  #tensor(name: string, shape: readonly number[]): void {
    const tensor = Tensor.zeros("float32", shape);
    tensor.write(Float32Array.from({ length: tensor.size }, (_, i) => Math.sin(i)));
    this.#tensors.set(name, tensor);
  }
}
