import type { Pointer } from "./api.js";
import { openLibrary } from "./c-library.js";
import type { Rows } from "./memory.js";

/** The part of the CUDA runtime (libcudart) that device memory needs; the same in CUDA 12 and 13. */
interface Functions {
  cudaGetErrorName(code: number): string;
  cudaGetErrorString(code: number): string;
  cudaGetLastError(): number;
  cudaThreadExchangeStreamCaptureMode(mode: Int32Array): number;
  cudaGetDeviceCount(out: Int32Array): number;
  cudaSetDevice(device: number): number;
  cudaStreamCreateWithFlags(out: BigUint64Array, flags: number): number;
  cudaStreamSynchronize(stream: Pointer): number;
  cudaStreamDestroy(stream: Pointer): number;
  cudaMallocAsync(out: BigUint64Array, bytes: number, stream: Pointer): number;
  cudaFreeAsync(address: Pointer, stream: Pointer): number;
  cudaMallocHost(out: BigUint64Array, bytes: number): number;
  cudaFreeHost(address: Pointer): number;
  cudaMemcpyAsync(
    to: Pointer | Uint8Array,
    from: Pointer | Uint8Array,
    bytes: number,
    kind: number,
    stream: Pointer,
  ): number;
  cudaMemcpy2DAsync(
    to: Pointer,
    toPitch: number,
    from: Pointer,
    fromPitch: number,
    width: number,
    height: number,
    kind: number,
    stream: Pointer,
  ): number;
  cudaMemsetAsync(address: Pointer, byte: number, bytes: number, stream: Pointer): number;
  cudaMemGetInfo(free: BigUint64Array, total: BigUint64Array): number;
  cudaDeviceGetDefaultMemPool(out: BigUint64Array, device: number): number;
  cudaMemPoolSetAttribute(pool: Pointer, attribute: number, value: BigUint64Array): number;
  cudaMemPoolTrimTo(pool: Pointer, keep: number): number;
}

type NativeFunction = (...args: unknown[]) => unknown;

const ptr = "void *";
const size = "size_t";

const SIGNATURES: { readonly [Name in keyof Functions]: readonly [result: string, args: readonly string[]] } = {
  cudaGetErrorName: ["str", ["int"]],
  cudaGetErrorString: ["str", ["int"]],
  cudaGetLastError: ["int", []],
  cudaThreadExchangeStreamCaptureMode: ["int", [ptr]],
  cudaGetDeviceCount: ["int", [ptr]],
  cudaSetDevice: ["int", ["int"]],
  cudaStreamCreateWithFlags: ["int", [ptr, "uint32_t"]],
  cudaStreamSynchronize: ["int", [ptr]],
  cudaStreamDestroy: ["int", [ptr]],
  cudaMallocAsync: ["int", [ptr, size, ptr]],
  cudaFreeAsync: ["int", [ptr, ptr]],
  cudaMallocHost: ["int", [ptr, size]],
  cudaFreeHost: ["int", [ptr]],
  cudaMemcpyAsync: ["int", [ptr, ptr, size, "int", ptr]],
  cudaMemcpy2DAsync: ["int", [ptr, size, ptr, size, size, size, "int", ptr]],
  cudaMemsetAsync: ["int", [ptr, "int", size, ptr]],
  cudaMemGetInfo: ["int", [ptr, ptr]],
  cudaDeviceGetDefaultMemPool: ["int", [ptr, "int"]],
  cudaMemPoolSetAttribute: ["int", [ptr, "int", ptr]],
  cudaMemPoolTrimTo: ["int", [ptr, size]],
};

/** cudaStreamCaptureModeThreadLocal. */
const OWN_CAPTURES = 1;
/** cudaErrorMemoryAllocation. */
export const OUT_OF_MEMORY = 2;
const STREAM_NON_BLOCKING = 1;
const [HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE] = [1, 2, 3];
/** cudaMemPoolAttrReleaseThreshold: memory that is kept when nothing uses it. */
const POOL_KEEPS = 4;
/** What is read back at once goes through page-locked memory of this many bytes, which the device reaches at full speed. */
const STAGING_BYTES = 4 << 20;

/** An error that the CUDA runtime reported. */
export class CudaError extends Error {
  override readonly name = "CudaError";
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/**
 * One GPU and one stream on it, on which everything runs in the order in which it was asked for: what ONNX Runtime computes
 * (the sessions are given the stream) and what is copied. Calls return when the work is queued, those that read from the
 * device when it is done.
 */
export class CudaRuntime implements Disposable {
  readonly stream: Pointer;
  /** Bytes that were copied to the GPU and from it, ever. */
  readonly traffic = { toDevice: 0, toHost: 0 };
  readonly #functions: Functions;
  readonly #staging: Pointer;
  readonly #pool: Pointer;
  readonly #cell = new BigUint64Array(1);

  /**
   * @param path of libcudart
   * @throws CudaError where the driver is too old, there is no such device, or it cannot be used.
   */
  constructor(
    path: string,
    readonly device: number,
  ) {
    const library = openLibrary(path);
    const bound = Object.entries(SIGNATURES).map(([name, [result, args]]) => {
      const call: NativeFunction = library.func(name, result, [...args]);
      return [name, call];
    });
    this.#functions = Object.fromEntries(bound);
    const count = new Int32Array(1);
    this.#check(this.#functions.cudaGetDeviceCount(count), "looking for GPUs");
    this.#check(this.#functions.cudaSetDevice(device), `GPU ${device} of ${count[0]}`);
    // ONNX Runtime's recordings else forbid other models' threads to allocate while they last, and fail if they do.
    this.#check(this.#functions.cudaThreadExchangeStreamCaptureMode(Int32Array.of(OWN_CAPTURES)), "capture mode");
    this.stream = this.#made((out) => this.#functions.cudaStreamCreateWithFlags(out, STREAM_NON_BLOCKING), "a stream");
    this.#staging = this.#made((out) => this.#functions.cudaMallocHost(out, STAGING_BYTES), "page-locked memory");
    this.#pool = this.#made((out) => this.#functions.cudaDeviceGetDefaultMemPool(out, device), "the memory pool");
    // The default gives memory back to the system at every synchronisation, which makes the next allocation slow.
    this.#cell[0] = 2n ** 64n - 1n;
    this.#check(this.#functions.cudaMemPoolSetAttribute(this.#pool, POOL_KEEPS, this.#cell), "the memory pool");
  }

  /** @throws CudaError, OUT_OF_MEMORY where the GPU has no room. */
  allocate(bytes: number, about: string): Pointer {
    const take = (out: BigUint64Array) => this.#functions.cudaMallocAsync(out, bytes, this.stream);
    try {
      return this.#made(take, about);
    } catch (error) {
      if (!(error instanceof CudaError && error.code === OUT_OF_MEMORY)) throw error;
      const { free, total } = this.memory();
      const left = `${megabytes(free)} of ${megabytes(total)} MB are free`;
      throw new CudaError(error.code, `${about}: the GPU has no ${megabytes(bytes)} MB left (${left})`);
    }
  }

  free(address: Pointer): void {
    this.#functions.cudaFreeAsync(address, this.stream);
  }

  zero(address: Pointer, bytes: number): void {
    this.#check(this.#functions.cudaMemsetAsync(address, 0, bytes, this.stream), "clearing memory");
  }

  /** `from` may be changed as soon as this returns, where it is ordinary memory. */
  copyIn(to: Pointer, from: Pointer | Uint8Array, bytes: number): void {
    this.traffic.toDevice += bytes;
    this.#check(this.#functions.cudaMemcpyAsync(to, from, bytes, HOST_TO_DEVICE, this.stream), "copying to the GPU");
  }

  copy(to: Pointer, from: Pointer, bytes: number): void {
    this.#check(this.#functions.cudaMemcpyAsync(to, from, bytes, DEVICE_TO_DEVICE, this.stream), "copying on the GPU");
  }

  /** Copies `height` rows of `width` bytes. */
  copyRows(to: Rows, from: Rows, width: number, height: number): void {
    if (width === 0 || height === 0) return;
    const { cudaMemcpy2DAsync } = this.#functions;
    this.#check(
      cudaMemcpy2DAsync(to.address, to.pitch, from.address, from.pitch, width, height, DEVICE_TO_DEVICE, this.stream),
      "copying on the GPU",
    );
  }

  /** Waits for all that was asked for before. @param receive is given page-locked host memory, piece by piece */
  copyOut(from: Pointer, bytes: number, receive: (address: Pointer, at: number, bytes: number) => void): void {
    const { cudaMemcpyAsync } = this.#functions;
    this.traffic.toHost += bytes;
    for (let at = 0; at < bytes; at += STAGING_BYTES) {
      const piece = Math.min(STAGING_BYTES, bytes - at);
      this.#check(
        cudaMemcpyAsync(this.#staging, from + BigInt(at), piece, DEVICE_TO_HOST, this.stream),
        "copying from the GPU",
      );
      this.wait();
      receive(this.#staging, at, piece);
    }
  }

  /** Until everything that was asked for is done. @throws CudaError where some of it failed. */
  wait(): void {
    this.#check(this.#functions.cudaStreamSynchronize(this.stream), "computing on the GPU");
  }

  /** Bytes of the whole GPU, whoever uses them. */
  memory(): { readonly free: number; readonly total: number } {
    const [free, total] = [new BigUint64Array(1), new BigUint64Array(1)];
    this.#check(this.#functions.cudaMemGetInfo(free, total), "asking for free memory");
    return { free: Number(free[0]), total: Number(total[0]) };
  }

  /** Gives memory that nothing uses back to the system. */
  trim(): void {
    this.wait();
    this.#check(this.#functions.cudaMemPoolTrimTo(this.#pool, 0), "giving memory back");
  }

  [Symbol.dispose](): void {
    this.#functions.cudaStreamSynchronize(this.stream);
    this.#functions.cudaFreeHost(this.#staging);
    this.#functions.cudaStreamDestroy(this.stream);
  }

  #made(call: (out: BigUint64Array) => number, about: string): Pointer {
    const out = new BigUint64Array(1);
    this.#check(call(out), about);
    return out[0] ?? 0n;
  }

  #check(code: number, about: string): void {
    if (code === 0) return;
    const { cudaGetErrorName, cudaGetErrorString, cudaGetLastError } = this.#functions;
    // The thread's last error is what ONNX Runtime would take for its next kernel's.
    cudaGetLastError();
    throw new CudaError(code, `${about}: ${cudaGetErrorString(code)} (${cudaGetErrorName(code)})`);
  }
}

const megabytes = (bytes: number): string => Math.ceil(bytes / 1e6).toLocaleString("en");
