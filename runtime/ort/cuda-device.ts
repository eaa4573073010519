import type { Pointer } from "./api.js";
import type { CudaRuntime } from "./cuda-runtime.js";
import type { Device, RunInputs } from "./device.js";
import { type ElementType, elementBytes } from "./elements.js";
import { Handle } from "./handle.js";
import { check, library, made } from "./library.js";
import type { MappedFile } from "./mapped-file.js";
import type { Backing, Memory } from "./memory.js";
import type { HostNode } from "./placement.js";
import { Tensor } from "./tensor.js";

/** Kernels read up to 16 bytes at once; CUDA itself aligns to 256. */
const ALIGNMENT = 256;
/** Inputs of a run are brought over in pieces of at least this size. */
const SEGMENT_BYTES = 64 << 10;
/** Compute capability from which kernels of attention and products are there in bfloat16. */
const OLDEST_FOR_BFLOAT16 = 8;
const NOT_RECORDED = -1;
/** OrtDeviceAllocator, OrtMemTypeDefault. */
const [DEVICE_ALLOCATOR, DEFAULT_MEMORY] = [0, 0];

export interface CudaSettings {
  /** As the hardware calls itself. */
  readonly description: string;
  /** For example 9. */
  readonly computeCapability: number;
  /** Is given nodes of graphs that have been loaded through which data leaves the device. */
  readonly onHostNodes?: ((nodes: readonly HostNode[]) => void) | undefined;
}

/** One GPU: sessions of ONNX Runtime's CUDA provider, and memory on it. */
export class CudaDevice implements Device {
  readonly name: string;
  readonly description: string;
  readonly bfloat16: boolean;
  readonly isHost = false;
  readonly #info: Handle;
  readonly #memory: Memory;
  readonly #onHostNodes: (nodes: readonly HostNode[]) => void;
  readonly #runOptions = new Map<number | null, Handle>();

  constructor(
    readonly runtime: CudaRuntime,
    { description, computeCapability, onHostNodes = () => {} }: CudaSettings,
  ) {
    this.name = `cuda:${runtime.device}`;
    this.description = description;
    this.bfloat16 = computeCapability >= OLDEST_FOR_BFLOAT16;
    this.#onHostNodes = onHostNodes;
    this.#info = new Handle(
      "memory information",
      made((api, out) => api.CreateMemoryInfo("Cuda", DEVICE_ALLOCATOR, runtime.device, DEFAULT_MEMORY, out)),
      (p) => library().api.ReleaseMemoryInfo(p),
    );
    this.#memory = {
      info: this.#info.pointer,
      zero: (address, bytes) => runtime.zero(address, bytes),
      copy: (to, from, bytes) => runtime.copy(to, from, bytes),
      copyRows: (to, from, width, height) => runtime.copyRows(to, from, width, height),
      copyIn: (to, from, bytes) => runtime.copyIn(to, from, bytes),
      copyOut: (from, bytes, receive) => runtime.copyOut(from, bytes, receive),
    };
  }

  zeros(type: ElementType, shape: readonly number[]): Tensor {
    const bytes = elementBytes(type, shape);
    const backing = this.#allocate(bytes, `allocating ${type}[${shape}]`);
    const tensor = Tensor.over(backing, 0, type, shape);
    backing[Symbol.dispose](); // the tensor holds it
    if (bytes > 0) this.runtime.zero(backing.address, bytes);
    return tensor;
  }

  untouched(type: ElementType, shape: readonly number[]): Tensor {
    return this.zeros(type, shape);
  }

  inputs(): RunInputs {
    return new CudaInputs(this.#memory, (bytes) => this.#allocate(bytes, "allocating inputs"));
  }

  weights(file: MappedFile): Backing & Disposable {
    const backing = this.#allocate(file.bytes, "loading weights");
    this.runtime.copyIn(backing.address, file.address, file.bytes);
    this.runtime.wait();
    file.forgetPages();
    return backing;
  }

  prepare(sessionOptions: Pointer, replays: boolean): void {
    const settings: Readonly<Record<string, string>> = {
      device_id: String(this.runtime.device),
      has_user_compute_stream: "1",
      user_compute_stream: String(this.runtime.stream),
      // Tensor cores round the factors of f32 products to 11 bits.
      use_tf32: "0",
      arena_extend_strategy: "kSameAsRequested",
      // Else the sums of fused norms are in 16 bits where their inputs are.
      enable_skip_layer_norm_strict_mode: "1",
      ...(replays ? { enable_cuda_graph: "1" } : {}),
    };
    const { api } = library();
    const options = made((a, out) => a.CreateCUDAProviderOptions(out));
    try {
      const [keys, values] = [Object.keys(settings), Object.values(settings)];
      check(api.UpdateCUDAProviderOptions(options, keys, values, keys.length), "CUDA");
      check(api.SessionOptionsAppendExecutionProvider_CUDA_V2(sessionOptions, options), "CUDA");
    } finally {
      api.ReleaseCUDAProviderOptions(options);
    }
  }

  runOptions(recording: number | null): Pointer {
    const known = this.#runOptions.get(recording);
    if (known !== undefined) return known.pointer;
    const { api } = library();
    const handle = new Handle(
      "run options",
      made((a, out) => a.CreateRunOptions(out)),
      (p) => api.ReleaseRunOptions(p),
    );
    check(api.AddRunConfigEntry(handle.pointer, "gpu_graph_id", String(recording ?? NOT_RECORDED)));
    // Who reads the results waits for them. A run that is not recorded may have left memory of the host to be given back,
    // which ONNX Runtime else does when the session ends, too late for the memory's allocator.
    if (recording !== null)
      check(api.AddRunConfigEntry(handle.pointer, "disable_synchronize_execution_providers", "1"));
    this.#runOptions.set(recording, handle);
    return handle.pointer;
  }

  wait(): void {
    this.runtime.wait();
  }

  get memoryBytes(): number {
    return this.runtime.memory().total;
  }

  trim(): void {
    this.runtime.trim();
  }

  leftThrough(nodes: readonly HostNode[]): void {
    this.#onHostNodes(nodes);
  }

  [Symbol.dispose](): void {
    for (const handle of this.#runOptions.values()) handle[Symbol.dispose]();
    this.#info[Symbol.dispose]();
    this.runtime[Symbol.dispose]();
  }

  #allocate(bytes: number, about: string): Backing & Disposable {
    // An empty tensor has an address all the same.
    const address = this.runtime.allocate(Math.max(bytes, ALIGNMENT), about);
    const handle = new Handle(about, address, (p) => this.runtime.free(p));
    return backingOf(handle, address, bytes, this.#memory);
  }
}

/** Inputs of runs: written to memory of the host, in the layout in which one copy brings them over. */
class CudaInputs implements RunInputs {
  readonly #segments: InputSegment[] = [];

  constructor(
    readonly memory: Memory,
    readonly allocate: (bytes: number) => Backing & Disposable,
  ) {}

  zeros(type: ElementType, shape: readonly number[]): Tensor {
    const bytes = elementBytes(type, shape);
    let segment = this.#segments.at(-1);
    if (segment === undefined || segment.room < bytes) {
      segment = new InputSegment(this.memory, this.allocate(Math.max(SEGMENT_BYTES, bytes)));
      this.#segments.push(segment);
    }
    return Tensor.over(segment, segment.take(bytes), type, shape);
  }

  send(): void {
    for (const segment of this.#segments) segment.send();
  }

  [Symbol.dispose](): void {
    for (const segment of this.#segments) segment[Symbol.dispose]();
  }
}

/** Memory on the device whose contents the host prepares in memory of its own. */
class InputSegment implements Backing, Disposable {
  readonly address: Pointer;
  readonly bytes: number;
  readonly writable = true;
  readonly memory: Memory;
  readonly #host: Uint8Array;
  #used = 0;

  constructor(
    device: Memory,
    readonly backing: Backing & Disposable,
  ) {
    this.address = backing.address;
    this.bytes = backing.bytes;
    this.#host = new Uint8Array(backing.bytes);
    const at = (address: Pointer): number => Number(address - this.address);
    this.memory = {
      ...device,
      zero: (address, bytes) => this.#host.fill(0, at(address), at(address) + bytes),
      copyIn: (to, from, bytes) => {
        if (typeof from === "bigint") throw new TypeError("inputs are written by the host");
        this.#host.set(from.subarray(0, bytes), at(to));
      },
    };
  }

  get room(): number {
    return this.bytes - this.#used;
  }

  /** Place of so many bytes more. */
  take(bytes: number): number {
    const at = this.#used;
    this.#used = Math.min(this.bytes, Math.ceil((at + bytes) / ALIGNMENT) * ALIGNMENT);
    return at;
  }

  send(): void {
    const { memory } = this.backing;
    if (this.#used > 0) memory?.copyIn(this.address, this.#host, this.#used);
  }

  hold(): void {
    this.backing.hold();
  }

  letGo(): void {
    this.backing.letGo();
  }

  [Symbol.dispose](): void {
    this.backing[Symbol.dispose]();
  }
}

function backingOf(handle: Handle, address: Pointer, bytes: number, memory: Memory): Backing & Disposable {
  return {
    address,
    bytes,
    writable: true,
    memory,
    hold: () => handle.hold(),
    letGo: () => handle.letGo(),
    [Symbol.dispose]: () => handle[Symbol.dispose](),
  };
}
