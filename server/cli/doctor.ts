import { findModel } from "../../models/hub/find-model.js";
import { type Inspection, inspectModel } from "../../models/inspect.js";
import type { AskedPrecision } from "../../models/weights/block-format.js";
import { DEFAULT_SINKS, LARGEST_DEFAULT_WINDOW } from "../../runtime/contract/default-geometry.js";
import { Encoder } from "../../runtime/prompts/encoder.js";
import { type DeviceReport, deviceLines, reportDevice } from "./doctor-device.js";
import type { DoctorOptions } from "./options.js";
import { createProgress } from "./progress.js";
import { size } from "./pull-progress.js";
import { embeddedModel } from "./start-engine.js";

/** Says what a model is, what it needs, and what of it is refused and why. Exit code 1 where something is. */
export async function doctor(options: DoctorOptions): Promise<number> {
  const { path, name } = findModel(options.model ?? embeddedModel(), process.env);
  const device = reportDevice(options.device ?? { kind: "auto" }, options.ortLibrary);
  const progress = createProgress("reading", process.stderr);
  const inspection = await inspectModel({
    path,
    precision: options.precision,
    kv: options.kv,
    device: device.runsOn,
    // Which form of 8 bits is better is only known once a model is loaded; the two take about as much memory.
    eightBits: device.runsOn === "cpu" ? "int8" : "q8-block",
    window: options.window,
    largestWindow: LARGEST_DEFAULT_WINDOW,
    sinks: options.sinks ?? DEFAULT_SINKS,
    saes: options.sae?.filter(({ folder }) => folder !== "none").map(({ folder }) => folder),
    quick: options.quick,
    tryTokenizer,
    ...(process.stderr.isTTY ? { onProgress: progress.show } : {}),
  }).finally(() => progress.stop());
  const refused = device.refused || isRefused(inspection);
  process.stdout.write(
    options.json
      ? `${JSON.stringify({ name, refused, ...inspection, device })}\n`
      : reportOf(name, inspection, device, options.precision),
  );
  return refused ? 1 : 0;
}

async function tryTokenizer(path: string, vocabSize: number): Promise<"ok" | "absent"> {
  const encoder = await Encoder.start(path, vocabSize);
  encoder?.close();
  return encoder === null ? "absent" : "ok";
}

function reportOf(name: string, inspection: Inspection, device: DeviceReport, asked: AskedPrecision): string {
  const { path, checks, parameters, precision, stored, needs } = inspection;
  const facts: (readonly [string, string])[] = [["model", `${name}, ${path}`]];
  if (parameters !== null) facts.push(["weights", `${count(parameters)} parameters`]);
  if (stored !== null)
    facts.push(["stored", `${size(stored.bytes)} of ${Object.keys(stored.types).sort().join(", ")}`]);
  if (needs !== null) {
    const isTried = asked === "q8" && precision === "int8";
    facts.push(["runs in", isTried ? "int8, or q8-block where that is found to be better" : (precision ?? "")]);
    const where = device.runsOn === "cuda" ? "copied to the GPU" : "mapped from the disk";
    facts.push(["memory", `${size(needs.weightBytes)} of weights, ${where}`]);
    facts.push([
      "",
      `${size(needs.cacheBytes)} of keys and values in ${needs.kv} for each text that fills the window of ${needs.window}`,
    ]);
    facts.push(["disk", `${size(needs.weightBytes)} in the cache of compiled models`]);
  }
  return [
    ...facts.map(([left, right]) => `${left.padEnd(9)}${right}`),
    ...checks.map(({ about, verdict, finding }) => `${verdict.padEnd(9)}${about}: ${finding.replaceAll("\n", " ")}`),
    ...deviceLines(device),
    isRefused(inspection)
      ? "This model would be refused."
      : `This model can be served${device.refused ? ", but not where it was asked for" : ""}.`,
    "",
  ].join("\n");
}

const isRefused = ({ checks }: Inspection): boolean => checks.some(({ verdict }) => verdict === "refused");

const count = (parameters: number): string =>
  parameters < 1e6
    ? `${(parameters / 1e3).toFixed(1)} thousand`
    : parameters < 1e9
      ? `${(parameters / 1e6).toFixed(1)} million`
      : `${(parameters / 1e9).toFixed(2)} billion`;
