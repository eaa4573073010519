import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import koffi from "koffi";
import { SetupError } from "../contract/errors.js";
import { bindApi, type OrtApi, type Pointer } from "./api.js";
import { keepLoaded, openLibrary, setNativeEnvironment } from "./c-library.js";

/** The one version whose function table and operators this project is written against. */
export const VERSION = "1.29.0";
const API_VERSION = 24;
/** Entries of `struct OrtApi` in 1.29.0. */
const TABLE_LENGTH = 425;

const LIBRARY: Record<string, string> = {
  "linux-x64": "libonnxruntime.so.1",
  "linux-arm64": "libonnxruntime.so.1",
  "darwin-arm64": "libonnxruntime.1.29.0.dylib",
  "win32-x64": "onnxruntime.dll",
  "win32-arm64": "onnxruntime.dll",
};

/** ONNX Runtime in this process: its functions, and where tensors are allocated. */
export interface Library {
  readonly api: OrtApi;
  readonly allocator: Pointer;
  readonly cpuMemory: Pointer;
}

/** An error that ONNX Runtime reported, with its own text. */
export class OrtError extends Error {
  override readonly name = "OrtError";
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** Where onnxruntime-node keeps the library of this platform. @throws SetupError on a platform without one. */
export function libraryPath(): string {
  const platform = `${process.platform}-${process.arch}`;
  const file = LIBRARY[platform];
  if (file === undefined) {
    const known = Object.keys(LIBRARY).join(", ");
    throw new SetupError(`There is no ONNX Runtime for ${platform}; lambdatap runs on ${known}.`);
  }
  const root = dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json"));
  const path = join(root, "bin", "napi-v6", process.platform, process.arch, file);
  if (!existsSync(path)) throw new SetupError(`${path} is missing: run "npm ci" again.`);
  return path;
}

let loaded: Library | undefined;
let loadedFrom: string | undefined;

/** ONNX Runtime, loaded once per thread. @throws SetupError when it is missing, cannot be loaded, or is another version. */
export function library(): Library {
  if (loaded === undefined) useLibrary(libraryPath());
  return loaded!;
}

/**
 * Loads ONNX Runtime from a file of the user's choice, before this thread uses any other.
 * @throws SetupError as `library`.
 */
export function useLibrary(path: string): void {
  if (loadedFrom === path) return;
  if (loadedFrom !== undefined) throw new Error(`${path} cannot be loaded: this thread uses ${loadedFrom}`);
  loaded = load(path);
  loadedFrom = path;
}

function load(path: string): Library {
  const [getApi, getVersion] = apiBase(path);
  const version: string = koffi.decode(getVersion, koffi.proto("str", []))();
  if (version !== VERSION) {
    throw new SetupError(`${path} is ONNX Runtime ${version}; lambdatap needs ${VERSION}. Run "npm ci" again.`);
  }
  const table: Pointer | null = koffi.decode(getApi, koffi.proto("void *", ["uint32_t"]))(API_VERSION);
  if (table === null) throw new SetupError(`${path} has no API version ${API_VERSION}.`);
  const api = bindApi(table, TABLE_LENGTH);
  const made = (call: (out: BigUint64Array) => Pointer | null): Pointer => receive(api, call);
  return {
    api,
    allocator: made((out) => api.GetAllocatorWithDefaultOptions(out)),
    cpuMemory: made((out) => api.CreateCpuMemoryInfo(1, 0, out)),
  };
}

function apiBase(path: string): Pointer[] {
  try {
    disableTelemetry();
    chooseAttention();
    const file = openLibrary(path);
    keepLoaded(path);
    return koffi.decode(file.func("OrtGetApiBase", "void *", [])(), koffi.array("void *", 2));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new SetupError(`ONNX Runtime could not be loaded from ${path}: ${reason}`);
  }
}

/**
 * ONNX Runtime's attention over 8- and 4-bit keys has two ways on a CPU. This one takes 0.7 times as long for one token, and
 * what it computes for a row does not depend on how many rows there are; the other one splits the keys among threads where
 * there are fewer heads than these.
 */
function chooseAttention(): void {
  if (process.platform !== "win32") setNativeEnvironment("ORT_GQA_DISABLE_FLASH_ATTENTION", "1");
}

/**
 * Keeps the library from collecting usage data. On Linux and macOS it writes a device id and a queue of uploads to the disk
 * as soon as it is initialised, unless this variable is set by then; on Windows the environment turns its events off.
 */
function disableTelemetry(): void {
  if (process.platform !== "win32") setNativeEnvironment("ORT_DISABLE_TELEMETRY", "1");
}

function checkWith(api: OrtApi, status: Pointer | null): void {
  if (status === null) return;
  const error = new OrtError(api.GetErrorCode(status), api.GetErrorMessage(status));
  api.ReleaseStatus(status);
  throw error;
}

function receive(api: OrtApi, call: (out: BigUint64Array) => Pointer | null): Pointer {
  // koffi asks for the array's ArrayBuffer, and that moves even a small one off the heap for good.
  const out = new BigUint64Array(1);
  checkWith(api, call(out));
  return out[0] ?? 0n;
}

/** Turns a status into an exception and frees it; `about` says what was being done, e.g. the tensor's name. @throws OrtError */
export function check(status: Pointer | null, about?: string): void {
  if (status !== null) explained(about, () => checkWith(library().api, status));
}

/** Calls a function that returns a pointer or size through its last argument. @throws OrtError */
export function made(call: (api: OrtApi, out: BigUint64Array) => Pointer | null, about?: string): Pointer {
  const { api } = library();
  return explained(about, () => receive(api, (out) => call(api, out)));
}

function explained<Result>(about: string | undefined, act: () => Result): Result {
  try {
    return act();
  } catch (error) {
    if (error instanceof OrtError && about !== undefined) throw new OrtError(error.code, `${about}: ${error.message}`);
    throw error;
  }
}
