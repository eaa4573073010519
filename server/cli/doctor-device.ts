import { type DeviceChoice, deviceName } from "../../runtime/contract/device-choice.js";
import { examineCuda } from "../../runtime/ort/installation/choose-device.js";
import type { CudaDriver } from "../../runtime/ort/installation/cuda-driver.js";
import type { InstallCommand } from "../../runtime/ort/installation/cuda-packages.js";
import type { CudaSearch } from "../../runtime/ort/installation/find-cuda.js";
import { VERSION } from "../../runtime/ort/library.js";
import { size } from "./pull-progress.js";

/** Where a model would run here, and what was found of CUDA. */
export interface DeviceReport {
  readonly asked: string;
  readonly runsOn: "cpu" | "cuda";
  /** Whether CUDA was asked for and cannot be used. */
  readonly refused: boolean;
  /** Why it does not run on CUDA, a sentence with the remedy. */
  readonly problem: string | null;
  /** Null where nobody looked: the CPU was asked for, or there is no driver. */
  readonly cuda: {
    readonly driver: CudaDriver;
    readonly provider: {
      readonly source: string;
      readonly version: string;
      readonly cuda: number;
      readonly folder: string;
    } | null;
    readonly passedOver: CudaSearch["passedOver"];
    readonly libraries: CudaSearch["libraries"];
    /** Commands, each of which brings something that is missing. */
    readonly install: readonly InstallCommand[];
  } | null;
}

/** Looks for a driver, GPUs, ONNX Runtime's provider and the CUDA libraries; changes nothing. */
export function reportDevice(choice: DeviceChoice, ortLibrary: string | undefined): DeviceReport {
  const asked = deviceName(choice);
  if (choice.kind === "cpu") return { asked, runsOn: "cpu", refused: false, problem: null, cuda: null };
  const { driver, search, problem } = examineCuda(choice, { env: process.env, ortLibrary });
  const runsOn = problem === null ? "cuda" : "cpu";
  const refused = problem !== null && choice.kind === "cuda";
  if (search === null) return { asked, runsOn, refused, problem, cuda: null };
  const { provider, passedOver, libraries, commands } = search;
  return {
    asked,
    runsOn,
    refused,
    problem,
    cuda: {
      driver,
      provider: provider && {
        source: provider.source,
        version: VERSION,
        cuda: provider.cudaMajor,
        folder: provider.folder,
      },
      passedOver,
      libraries,
      install: commands,
    },
  };
}

/** The report on the terminal, a line each: what it is about, and what was found. */
export function deviceLines({ asked, runsOn, refused, problem, cuda }: DeviceReport): string[] {
  const line = (left: string, right: string) => `${left.padEnd(9)}${right}`;
  if (cuda === null) return [line("device", problem === null ? "the CPU" : "no NVIDIA driver: runs on the CPU")];
  const lines = [line("device", runsOn === "cuda" ? `${asked === "auto" ? "cuda:0" : asked}, a GPU` : "the CPU")];
  const { driver, provider, passedOver, libraries, install } = cuda;
  if (driver.status === "absent") lines.push(line("driver", "none of NVIDIA's"));
  if (driver.status === "failed") lines.push(line("driver", driver.reason));
  if (driver.status === "ready") {
    lines.push(line("driver", `NVIDIA's, for CUDA up to ${driver.cuda}`));
    for (const [i, { name, bytes, computeCapability }] of driver.gpus.entries())
      lines.push(line("GPU", `cuda:${i}, ${name}, ${size(bytes)}, compute capability ${computeCapability}`));
  }
  const found =
    provider && `ONNX Runtime ${provider.version} for CUDA ${provider.cuda}: ${provider.source}, ${provider.folder}`;
  lines.push(line("provider", found ?? "none"));
  for (const reason of passedOver) lines.push(line("", `passed over: ${reason}`));
  for (const { name, path, optional, instead } of libraries) {
    const absent = `not here${optional ? ", some kernels go without it" : ""}${instead[0] === undefined ? "" : `; ${instead[0]}`}`;
    lines.push(line(path !== null ? "ok" : optional ? "absent" : "missing", `${name}: ${path ?? absent}`));
  }
  for (const { command, brings } of install) lines.push(line("install", `${command}   # ${brings}`));
  if (problem !== null) lines.push(line(refused ? "refused" : "", problem));
  return lines;
}
