import type { DeviceChoice } from "../../contract/device-choice.js";
import { SetupError } from "../../contract/errors.js";
import { askDriver, type CudaDriver, type Gpu } from "./cuda-driver.js";
import { installProvider } from "./cuda-packages.js";
import { type CudaInstallation, type CudaPlaces, type CudaSearch, installationOf, searchCuda } from "./find-cuda.js";

/** Where a model runs. */
export type ChosenDevice =
  /** `notice`: a line for the log, where the choice was left to us and a GPU could not be used. */
  | { readonly kind: "cpu"; readonly notice: string | null }
  | { readonly kind: "cuda"; readonly index: number; readonly gpu: Gpu; readonly cuda: CudaInstallation };

/** What stands between a choice and a GPU. */
export interface CudaExamination {
  readonly driver: CudaDriver;
  /** Null where there was no need to look. */
  readonly search: CudaSearch | null;
  /** Why CUDA cannot be used, a sentence with the remedy; null where it can. */
  readonly problem: string | null;
}

/** The oldest GPUs that CUDA 13 runs on (its release notes, 13.0). */
const OLDEST_FOR_13 = 7.5;

/**
 * What a choice comes to on this machine. "auto" without a driver is the CPU, without a word.
 * @throws SetupError where CUDA was asked for and cannot be used, with the remedy.
 */
export function chooseDevice(choice: DeviceChoice, places: CudaPlaces & { readonly cacheRoot: string }): ChosenDevice {
  if (choice.kind === "cpu") return { kind: "cpu", notice: null };
  const { driver, search, problem } = examineCuda(choice, places);
  const index = indexOf(choice);
  const gpu = driver.status === "ready" ? driver.gpus[index] : undefined;
  if (search !== null && problem === null && gpu !== undefined)
    return { kind: "cuda", index, gpu, cuda: installationOf(search, places.cacheRoot) };
  if (choice.kind === "cuda") throw new SetupError(problem ?? "CUDA cannot be used.");
  return { kind: "cpu", notice: driver.status === "absent" ? null : `${problem} The CPU is used.` };
}

/** Asks the driver, and looks for what else CUDA needs; loads nothing but the driver. */
export function examineCuda(choice: Exclude<DeviceChoice, { kind: "cpu" }>, places: CudaPlaces): CudaExamination {
  const driver = askDriver();
  if (driver.status === "absent" && choice.kind === "auto")
    return { driver, search: null, problem: "There is no NVIDIA driver." };
  const newest = driver.status === "ready" ? { newestMajor: Number.parseInt(driver.cuda, 10) } : {};
  const search = searchCuda({ ...places, ...newest });
  return { driver, search, problem: problemOf(driver, search, indexOf(choice)) };
}

const indexOf = (choice: DeviceChoice): number => (choice.kind === "cuda" ? choice.index : 0);

function problemOf(driver: CudaDriver, search: CudaSearch, index: number): string | null {
  if (search.unsupported) return search.problem;
  if (driver.status === "absent")
    return "CUDA cannot be used: there is no NVIDIA driver (libcuda.so.1); install it, or leave --device out.";
  if (driver.status === "failed") return `CUDA cannot be used: ${driver.reason}`;
  const { gpus, cuda } = driver;
  const gpu = gpus[index];
  if (gpu === undefined) {
    const there = gpus.map(({ name }, i) => `cuda:${i} (${name})`).join(", ");
    return `CUDA cannot be used: there is no GPU cuda:${index}; the driver offers ${there}.`;
  }
  if (search.provider === null) return search.problem;
  const { cudaMajor, source } = search.provider;
  const [older] = installProvider((major) => major < cudaMajor);
  const instead = older === undefined ? "" : `, or "${older.command}" (${older.brings})`;
  if (Number.parseInt(cuda, 10) < cudaMajor)
    return `CUDA cannot be used: the provider (${source}) is built for CUDA ${cudaMajor}, and the NVIDIA driver runs CUDA up to ${cuda}; update the driver${instead}.`;
  if (cudaMajor >= 13 && Number(gpu.computeCapability) < OLDEST_FOR_13)
    return `CUDA cannot be used: cuda:${index} (${gpu.name}) has compute capability ${gpu.computeCapability}, and CUDA ${cudaMajor} needs ${OLDEST_FOR_13}; choose another GPU${instead}.`;
  return search.problem;
}
