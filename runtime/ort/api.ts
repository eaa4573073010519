import koffi from "koffi";

/** Address of something native. */
export type Pointer = bigint;
/** `OrtStatus *`: null is success; anything else must go through `check`, which frees it. */
type Status = Pointer | null;
/** Where a call writes the pointer or size it returns. */
type Cell = BigUint64Array;

/** The part of `struct OrtApi` (onnxruntime_c_api.h, 1.29.0) that lambdatap uses. */
export interface OrtApi {
  GetErrorCode(status: Pointer): number;
  GetErrorMessage(status: Pointer): string;
  ReleaseStatus(status: Pointer): void;
  CreateEnvWithGlobalThreadPools(logLevel: number, logId: string, threading: Pointer, out: Cell): Status;
  CreateThreadingOptions(out: Cell): Status;
  SetGlobalIntraOpNumThreads(threading: Pointer, threads: number): Status;
  SetGlobalInterOpNumThreads(threading: Pointer, threads: number): Status;
  SetGlobalSpinControl(threading: Pointer, spin: number): Status;
  DisableTelemetryEvents(env: Pointer): Status;
  CreateSession(env: Pointer, path: string, options: Pointer, out: Cell): Status;
  CreateSessionWithPrepackedWeightsContainer(
    env: Pointer,
    path: string,
    options: Pointer,
    prepacked: Pointer,
    out: Cell,
  ): Status;
  CreateSessionOptions(out: Cell): Status;
  SetOptimizedModelFilePath(options: Pointer, path: string): Status;
  SetSessionLogSeverityLevel(options: Pointer, level: number): Status;
  SetIntraOpNumThreads(options: Pointer, threads: number): Status;
  DisablePerSessionThreads(options: Pointer): Status;
  DisableMemPattern(options: Pointer): Status;
  AddSessionConfigEntry(options: Pointer, key: string, value: string): Status;
  AddInitializer(options: Pointer, name: string, value: Pointer): Status;
  SessionGetInputCount(session: Pointer, out: Cell): Status;
  SessionGetOutputCount(session: Pointer, out: Cell): Status;
  SessionGetInputName(session: Pointer, index: number, allocator: Pointer, out: Cell): Status;
  SessionGetOutputName(session: Pointer, index: number, allocator: Pointer, out: Cell): Status;
  CreateTensorAsOrtValue(allocator: Pointer, dims: BigInt64Array, rank: number, type: number, out: Cell): Status;
  CreateTensorWithDataAsOrtValue(
    memory: Pointer,
    data: Pointer,
    bytes: number,
    dims: BigInt64Array,
    rank: number,
    type: number,
    out: Cell,
  ): Status;
  GetTensorMutableData(value: Pointer, out: Cell): Status;
  CreateCpuMemoryInfo(allocator: number, memory: number, out: Cell): Status;
  GetAllocatorWithDefaultOptions(out: Cell): Status;
  AllocatorFree(allocator: Pointer, memory: Pointer): Status;
  CreateIoBinding(session: Pointer, out: Cell): Status;
  BindInput(binding: Pointer, name: string, value: Pointer): Status;
  BindOutput(binding: Pointer, name: string, value: Pointer): Status;
  RunWithBinding(session: Pointer, options: Pointer | null, binding: Pointer): Status;
  CreateRunOptions(out: Cell): Status;
  AddRunConfigEntry(options: Pointer, key: string, value: string): Status;
  CreateMemoryInfo(name: string, allocator: number, device: number, memory: number, out: Cell): Status;
  CreateCUDAProviderOptions(out: Cell): Status;
  UpdateCUDAProviderOptions(
    options: Pointer,
    keys: readonly string[],
    values: readonly string[],
    count: number,
  ): Status;
  SessionOptionsAppendExecutionProvider_CUDA_V2(options: Pointer, cuda: Pointer): Status;
  Session_GetEpGraphAssignmentInfo(session: Pointer, parts: Cell, count: Cell): Status;
  EpAssignedSubgraph_GetEpName(part: Pointer, out: Cell): Status;
  EpAssignedSubgraph_GetNodes(part: Pointer, nodes: Cell, count: Cell): Status;
  EpAssignedNode_GetName(node: Pointer, out: Cell): Status;
  CreatePrepackedWeightsContainer(out: Cell): Status;
  ReleasePrepackedWeightsContainer(container: Pointer): void;
  ReleaseSession(session: Pointer): void;
  ReleaseSessionOptions(options: Pointer): void;
  ReleaseThreadingOptions(threading: Pointer): void;
  ReleaseValue(value: Pointer): void;
  ReleaseIoBinding(binding: Pointer): void;
  ReleaseRunOptions(options: Pointer): void;
  ReleaseMemoryInfo(info: Pointer): void;
  ReleaseCUDAProviderOptions(options: Pointer): void;
}

const ptr = "void *";
const text = "str";
const texts = "str *";
/** Paths are `ORTCHAR_T`: UTF-16 on Windows. */
const path = process.platform === "win32" ? "str16" : "str";

/** Index in `struct OrtApi`, result and arguments. The table only ever grows, so an index is the same in every later version. */
const FUNCTIONS: {
  readonly [Name in keyof OrtApi]: readonly [index: number, result: string, args: readonly string[]];
} = {
  GetErrorCode: [1, "int", [ptr]],
  GetErrorMessage: [2, text, [ptr]],
  DisableTelemetryEvents: [6, ptr, [ptr]],
  CreateSession: [7, ptr, [ptr, path, ptr, ptr]],
  CreateSessionOptions: [10, ptr, [ptr]],
  SetOptimizedModelFilePath: [11, ptr, [ptr, path]],
  DisableMemPattern: [17, ptr, [ptr]],
  SetSessionLogSeverityLevel: [22, ptr, [ptr, "int"]],
  SetIntraOpNumThreads: [24, ptr, [ptr, "int"]],
  SessionGetInputCount: [30, ptr, [ptr, ptr]],
  SessionGetOutputCount: [31, ptr, [ptr, ptr]],
  SessionGetInputName: [36, ptr, [ptr, "size_t", ptr, ptr]],
  SessionGetOutputName: [37, ptr, [ptr, "size_t", ptr, ptr]],
  CreateRunOptions: [39, ptr, [ptr]],
  CreateTensorAsOrtValue: [48, ptr, [ptr, ptr, "size_t", "int", ptr]],
  CreateTensorWithDataAsOrtValue: [49, ptr, [ptr, ptr, "size_t", ptr, "size_t", "int", ptr]],
  GetTensorMutableData: [51, ptr, [ptr, ptr]],
  CreateMemoryInfo: [68, ptr, [text, "int", "int", "int", ptr]],
  CreateCpuMemoryInfo: [69, ptr, ["int", "int", ptr]],
  AllocatorFree: [76, ptr, [ptr, ptr]],
  GetAllocatorWithDefaultOptions: [78, ptr, [ptr]],
  ReleaseStatus: [93, "void", [ptr]],
  ReleaseMemoryInfo: [94, "void", [ptr]],
  ReleaseSession: [95, "void", [ptr]],
  ReleaseValue: [96, "void", [ptr]],
  ReleaseRunOptions: [97, "void", [ptr]],
  ReleaseSessionOptions: [100, "void", [ptr]],
  CreateEnvWithGlobalThreadPools: [119, ptr, ["int", text, ptr, ptr]],
  DisablePerSessionThreads: [120, ptr, [ptr]],
  CreateThreadingOptions: [121, ptr, [ptr]],
  ReleaseThreadingOptions: [122, "void", [ptr]],
  AddSessionConfigEntry: [130, ptr, [ptr, text, text]],
  RunWithBinding: [133, ptr, [ptr, ptr, ptr]],
  CreateIoBinding: [134, ptr, [ptr, ptr]],
  ReleaseIoBinding: [135, "void", [ptr]],
  BindInput: [136, ptr, [ptr, text, ptr]],
  BindOutput: [137, ptr, [ptr, text, ptr]],
  SetGlobalIntraOpNumThreads: [147, ptr, [ptr, "int"]],
  SetGlobalInterOpNumThreads: [148, ptr, [ptr, "int"]],
  SetGlobalSpinControl: [149, ptr, [ptr, "int"]],
  AddInitializer: [150, ptr, [ptr, text, ptr]],
  AddRunConfigEntry: [165, ptr, [ptr, text, text]],
  CreatePrepackedWeightsContainer: [166, ptr, [ptr]],
  ReleasePrepackedWeightsContainer: [167, "void", [ptr]],
  CreateSessionWithPrepackedWeightsContainer: [168, ptr, [ptr, path, ptr, ptr, ptr]],
  SessionOptionsAppendExecutionProvider_CUDA_V2: [204, ptr, [ptr, ptr]],
  CreateCUDAProviderOptions: [205, ptr, [ptr]],
  UpdateCUDAProviderOptions: [206, ptr, [ptr, texts, texts, "size_t"]],
  ReleaseCUDAProviderOptions: [208, "void", [ptr]],
  Session_GetEpGraphAssignmentInfo: [407, ptr, [ptr, ptr, ptr]],
  EpAssignedSubgraph_GetEpName: [408, ptr, [ptr, ptr]],
  EpAssignedSubgraph_GetNodes: [409, ptr, [ptr, ptr, ptr]],
  EpAssignedNode_GetName: [410, ptr, [ptr, ptr]],
};

/** Makes callable functions of a native `struct OrtApi` that has at least `length` entries. */
export function bindApi(table: Pointer, length: number): OrtApi {
  const slots: Pointer[] = koffi.decode(table, koffi.array(ptr, length));
  const bound = Object.entries(FUNCTIONS).map(([name, [index, result, args]]) => {
    const slot = slots[index];
    if (slot === undefined) throw new RangeError(`${name} is not in this ONNX Runtime's table`);
    const call: NativeFunction = koffi.decode(slot, koffi.proto(result, [...args]));
    return [name, args.includes(text) || args.includes(path) ? withWholeText(call) : call];
  });
  return Object.fromEntries(bound);
}

type NativeFunction = (...args: unknown[]) => unknown;

/** Text ends at its first NUL in native code: another file, or another tensor, would be taken for the one that was named. */
const withWholeText =
  (call: NativeFunction): NativeFunction =>
  (...args) => {
    const cut = args.find((each) => typeof each === "string" && each.includes("\0"));
    if (cut !== undefined) throw new RangeError(`${JSON.stringify(cut)} contains a NUL character`);
    return call(...args);
  };
