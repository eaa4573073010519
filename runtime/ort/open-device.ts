import type { DeviceChoice } from "../contract/device-choice.js";
import { SetupError } from "../contract/errors.js";
import { keepLoaded, openLibrary } from "./c-library.js";
import { CudaDevice, type CudaSettings } from "./cuda-device.js";
import { CudaError, CudaRuntime } from "./cuda-runtime.js";
import { CPU, type Device } from "./device.js";
import { type Threads, theEnvironment } from "./environment.js";
import { chooseDevice } from "./installation/choose-device.js";
import type { CudaInstallation } from "./installation/find-cuda.js";
import { check, library, made, OrtError, useLibrary } from "./library.js";
import type { HostNode } from "./placement.js";

export interface DeviceOptions extends Partial<Threads> {
  readonly choice: DeviceChoice;
  /** ONNX Runtime's library built for CUDA, or its folder, that the user chose. */
  readonly ortLibrary?: string | undefined;
  readonly cacheRoot: string;
  /** Is given nodes of graphs that have been loaded through which data leaves the device. */
  readonly onHostNodes?: (nodes: readonly HostNode[]) => void;
}

export interface OpenedDevice {
  readonly device: Device;
  /** A line for the log, where the choice was left to us and a GPU that is there could not be used. */
  readonly notice: string | null;
}

/**
 * Opens the device that a choice comes to, before this thread uses ONNX Runtime.
 * @throws SetupError where CUDA was asked for and cannot be used, with the remedy.
 */
export function openDevice({ choice, threads = 1, spin = true, onHostNodes, ...places }: DeviceOptions): OpenedDevice {
  const chosen = chooseDevice(choice, { ...places, env: process.env });
  if (chosen.kind === "cpu") return { device: CPU, notice: chosen.notice };
  const { cuda, index, gpu } = chosen;
  const settings = { description: gpu.name, computeCapability: Number(gpu.computeCapability), onHostNodes };
  try {
    return { device: openCuda(cuda, index, settings, { threads, spin }), notice: null };
  } catch (error) {
    if (!(error instanceof CudaError || error instanceof OrtError || error instanceof SetupError)) throw error;
    const problem = `CUDA cannot be used: ${error.message.trim().replace(/\.$/, "")} (${cuda.source}).`;
    if (choice.kind === "cuda") throw new SetupError(problem);
    return { device: CPU, notice: `${problem} The CPU is used.` };
  }
}

function openCuda(
  { library: path, needed, runtime }: CudaInstallation,
  index: number,
  settings: CudaSettings,
  threads: Threads,
): CudaDevice {
  for (const each of needed) load(each);
  const cuda = new CudaRuntime(runtime, index);
  try {
    useLibrary(path);
    const device = new CudaDevice(cuda, settings);
    loadProvider(device, threads);
    return device;
  } catch (error) {
    cuda[Symbol.dispose]();
    throw error;
  }
}

function load(path: string): void {
  try {
    openLibrary(path);
  } catch (error) {
    throw new SetupError(error instanceof Error ? error.message : String(error));
  }
  keepLoaded(path);
}

/** ONNX Runtime opens the provider when a session first asks for it; whether that works is to be known before. */
function loadProvider(device: Device, threads: Threads): void {
  theEnvironment(threads);
  const options = made((api, out) => api.CreateSessionOptions(out));
  const { api } = library();
  try {
    check(api.SetSessionLogSeverityLevel(options, 4));
    device.prepare(options, false);
  } finally {
    api.ReleaseSessionOptions(options);
  }
}
