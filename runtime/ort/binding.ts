import { Handle } from "./handle.js";
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

  /** @throws OrtError naming the tensor that does not fit; a binding that failed is dropped whole. */
  constructor(session: Session, inputs: ReadonlyMap<string, Tensor>, outputs: ReadonlyMap<string, Tensor>) {
    const { api } = library();
    this.#session = session;
    const held = [session, ...inputs.values(), ...outputs.values()];
    const pointer = made((a, out) => a.CreateIoBinding(session.pointer, out));
    for (const each of held) each.hold();
    this.#handle = new Handle("binding", pointer, (p) => {
      api.ReleaseIoBinding(p);
      for (const each of held) each.letGo();
    });
    try {
      for (const [name, tensor] of inputs) check(api.BindInput(pointer, name, tensor.pointer), `input ${name}`);
      for (const [name, tensor] of outputs) check(api.BindOutput(pointer, name, tensor.pointer), `output ${name}`);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Runs the graph; the calling thread waits. @throws OrtError with the failing node. */
  run(): void {
    check(library().api.RunWithBinding(this.#session.pointer, null, this.#handle.pointer));
  }

  [Symbol.dispose](): void {
    this.#handle[Symbol.dispose]();
  }
}
