import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { basename } from "node:path";
import { askDriver } from "../../runtime/ort/installation/cuda-driver.js";
import { GPU_PRECISIONS } from "./ceilings.js";
import type { Section } from "./section.js";

const QUERY = ["driver_version", "memory.total", "clocks.max.sm", "clocks.max.mem", "power.limit"] as const;

/** The GPU, what runs on it, and what it reaches at best. */
export const machine: Section = {
  name: "machine",
  about: "Ceilings are measured here, on random numbers; every share below is of them.",
  run({ device, ceilings }, findings) {
    const is = findings.table("Machine", ["what", "is"]);
    is(["GPU", device.description || device.name]);
    const driver = askDriver();
    if (driver.status === "ready") {
      is(["compute capability", driver.gpus[device.runtime.device]?.computeCapability ?? "not known"]);
      is(["newest CUDA of the driver", driver.cuda]);
    }
    for (const [name, value] of driverSays(device.runtime.device)) is([name, value]);
    is(["libraries loaded", loadedLibraries().join(", ") || "not known"]);
    is(["host", `${cpus().length} cores of ${cpus()[0]?.model ?? "unknown"}, Node ${process.version}`]);
    const { free, total } = device.runtime.memory();
    is(["memory free, GB", `${(free / 1e9).toFixed(1)} of ${(total / 1e9).toFixed(1)}`]);

    const reaches = findings.table("Ceilings", ["what", "measured", "unit"]);
    reaches(["copy on the device, read + written", ceilings.copyBandwidth() / 1e9, "GB/s"]);
    reaches(["[1,16384] x [16384,16384] f16, matrix read", ceilings.readBandwidth() / 1e9, "GB/s"]);
    for (const precision of GPU_PRECISIONS) {
      const about = precision === "f32" ? "f32, no TF32" : precision;
      reaches([`8192 x 8192 x 8192, ${about}`, ceilings.operations(precision) / 1e12, "TFLOP/s"]);
    }
  },
};

/** What nvidia-smi says of a GPU; nothing where it is not there. */
function driverSays(index: number): [name: string, value: string][] {
  try {
    const args = [`--query-gpu=${QUERY.join(",")}`, "--format=csv,noheader", "-i", String(index)];
    const line = execFileSync("nvidia-smi", args, { encoding: "utf8", timeout: 10_000 });
    return line.split(",").map((value, i) => [QUERY[i] ?? "", value.trim()]);
  } catch {
    return [["driver", "not known: nvidia-smi does not answer"]];
  }
}

/** Libraries of ONNX Runtime and CUDA in this process, by the names of their files, which hold their versions. */
function loadedLibraries(): string[] {
  let maps: string;
  try {
    maps = readFileSync("/proc/self/maps", "utf8");
  } catch {
    return [];
  }
  const names = maps.split("\n").map((line) => basename(/\/.*$/.exec(line)?.[0] ?? ""));
  return [...new Set(names)]
    .filter((name) => /^lib(onnxruntime|cuda|cudart|cublas|cudnn|curand|cufft)/.test(name))
    .sort();
}
