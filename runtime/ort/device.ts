import { totalmem } from "node:os";
import type { Pointer } from "./api.js";
import type { ElementType } from "./elements.js";
import type { MappedFile } from "./mapped-file.js";
import type { Backing } from "./memory.js";
import type { HostNode } from "./placement.js";
import { Tensor } from "./tensor.js";

/** Tensors that the host writes before each run of a graph. */
export interface RunInputs extends Disposable {
  /** A zeroed tensor; what is written to it counts once it was sent. */
  zeros(type: ElementType, shape: readonly number[]): Tensor;
  /** Brings all that was written to where graphs read it, before the next run. */
  send(): void;
}

/** Where graphs run, and where the tensors lie that they read and write. */
export interface Device extends Disposable {
  /** "cpu", "cuda:0". */
  readonly name: string;
  /** What the hardware calls itself; "" for the CPU. */
  readonly description: string;
  /** Whether it computes in bfloat16. */
  readonly bfloat16: boolean;
  /** Whether graphs read what the host has written, so that nothing has to be copied. */
  readonly isHost: boolean;
  /** A zeroed tensor. @throws OrtError or CudaError when there is no memory. */
  zeros(type: ElementType, shape: readonly number[]): Tensor;
  /** A tensor that is written before it is read. In the host's memory, what is never written takes none. */
  untouched(type: ElementType, shape: readonly number[]): Tensor;
  inputs(): RunInputs;
  /** The contents of a file where graphs read them; the file may be closed when what is returned is. */
  weights(file: MappedFile): Backing & Disposable;
  /** Adds to a session's options what makes it run here. @param replays whether its runs may be recorded and replayed */
  prepare(sessionOptions: Pointer, replays: boolean): void;
  /**
   * Options of a run; null: none.
   * @param recording number, from 1, under which the run is recorded at first and replayed later: same shapes, same memory;
   * null: it is not.
   */
  runOptions(recording: number | null): Pointer | null;
  /** Returns when nothing that was asked for is still to be done. @throws CudaError where some of it failed. */
  wait(): void;
  /** Bytes of its memory, whoever uses them. */
  readonly memoryBytes: number;
  /** Gives memory that nothing uses back to the system. */
  trim(): void;
  /** Is told of nodes of a graph that has been loaded through which data leaves the device. */
  leftThrough(nodes: readonly HostNode[]): void;
}

/** The processors, and the host's memory. */
export const CPU: Device = {
  name: "cpu",
  description: "",
  bfloat16: false,
  isHost: true,
  zeros: (type, shape) => Tensor.zeros(type, shape),
  untouched: (type, shape) => Tensor.untouched(type, shape),
  inputs: () => ({ zeros: (type, shape) => Tensor.zeros(type, shape), send: () => {}, [Symbol.dispose]: () => {} }),
  weights: (file) => ({ ...file, [Symbol.dispose]: () => {} }),
  prepare: () => {},
  runOptions: () => null,
  wait: () => {},
  memoryBytes: totalmem(),
  trim: () => {},
  leftThrough: () => {},
  [Symbol.dispose]: () => {},
};
