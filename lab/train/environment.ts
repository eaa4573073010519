import { cpus } from "node:os";
import { packageVersion } from "../../models/package-root.js";
import type { Device } from "../../runtime/ort/device.js";
import { VERSION as ORT_VERSION } from "../../runtime/ort/library.js";

/** What the last bits of a training depend on, beside its configuration. */
export type TrainingEnvironment = Readonly<Record<string, string>>;

export function trainingEnvironment(device: Device, threads: number): TrainingEnvironment {
  return {
    processor: device.isHost ? (cpus()[0]?.model.trim() ?? process.arch) : device.description,
    device: device.name,
    threads: String(threads),
    "ONNX Runtime": ORT_VERSION,
    lambdatap: packageVersion(),
  };
}

/** Whether the bytes of a run that goes on will be those of one that was not interrupted: a sentence if not, else null. */
export function environmentNotice(before: TrainingEnvironment, now: TrainingEnvironment): string | null {
  const names = [...new Set([...Object.keys(before), ...Object.keys(now)])];
  const differing = names
    .filter((name) => before[name] !== now[name])
    .map((name) => `${name} was ${before[name] ?? "another"} and is ${now[name] ?? "another"}`);
  if (differing.length === 0) return null;
  return `the checkpoint was made elsewhere (${differing.join("; ")}): the last bits will differ from an uninterrupted run's`;
}
