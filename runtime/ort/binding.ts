import { Handle, holdAll } from "./handle.js";
import { check, library, made } from "./library.js";
import type { Session } from "./session.js";
import type { Tensor } from "./tensor.js";

/**
 * The tensors of one kind of run, bound once: each `run` is a single native call. An output bound to the tensor of an
 * input is written in place. Everything bound is held until the binding is disposed.
 */
export class Binding implements Disposable {
  readonly #handle: Handle;
  readonly #session: Session;

  /** @throws OrtError naming the tensor that does not fit, TypeError where an output's memory is read-only. */
  constructor(session: Session, inputs: ReadonlyMap<string, Tensor>, outputs: ReadonlyMap<string, Tensor>) {
    const { api } = library();
    for (const [name, { writable }] of outputs) {
      if (!writable) throw new TypeError(`output ${name} cannot be written to read-only memory`);
    }
    this.#session = session;
    const pointer = made((a, out) => a.CreateIoBinding(session.pointer, out));
    let letGo = () => {};
    this.#handle = new Handle("binding", pointer, (p) => {
      api.ReleaseIoBinding(p);
      letGo();
    });
    try {
      letGo = holdAll([session, ...inputs.values(), ...outputs.values()]);
      for (const [name, tensor] of inputs) check(api.BindInput(pointer, name, tensor.pointer), `input ${name}`);
      for (const [name, tensor] of outputs) check(api.BindOutput(pointer, name, tensor.pointer), `output ${name}`);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Runs the graph. On the CPU the calling thread waits; what a device computes is waited for when it is read.
   * @param recording as in `Device.runOptions`, of this binding alone
   * @throws OrtError with the failing node.
   */
  run(recording: number | null = null): void {
    const options = this.#session.device.runOptions(recording);
    check(library().api.RunWithBinding(this.#session.pointer, options, this.#handle.pointer));
  }

  [Symbol.dispose](): void {
    this.#handle[Symbol.dispose]();
  }
}
