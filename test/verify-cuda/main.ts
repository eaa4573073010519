import { rmSync } from "node:fs";
import { terminalTable, writeReport } from "../../loadtest/report/report.js";
import { CudaDevice } from "../../runtime/ort/cuda-device.js";
import { openDevice } from "../../runtime/ort/open-device.js";
import { benchFolder } from "../bench/bench-model.js";
import { Ceilings } from "./ceilings.js";
import { errorLine } from "./error-line.js";
import { Findings, toTable } from "./findings.js";
import { type Options, readOptions, USAGE } from "./options.js";
import { runParts } from "./parts.js";
import type { Bench, Section } from "./section.js";
import { chooseSections } from "./sections.js";
import { isMet, type Outcome, verifyReport } from "./verify-report.js";

/**
 * `npm run verify:cuda`: everything that needs a GPU, in one report; flags: --help. Exit code 0 where every goal was met, 1
 * where one was not or a section failed, 2 where there is no GPU.
 */
const [FAILED, NO_DEVICE] = [1, 2];
/** Lines of the summary on a terminal. */
const SHOWN = 30;
const cacheRoot = benchFolder("cache");
const scratch = benchFolder("verify-cuda");

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  let options: Options | null;
  let sections: readonly Section[];
  try {
    options = readOptions(args);
    sections = chooseSections(options?.only);
  } catch (error) {
    process.stderr.write(`verify:cuda: ${errorLine(error)}\n`);
    return FAILED;
  }
  if (options === null) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  let device: CudaDevice;
  try {
    device = open(options);
  } catch (error) {
    process.stderr.write(`no CUDA device: ${errorLine(error).replace(/^CUDA cannot be used: /, "")}\n`);
    return NO_DEVICE;
  }
  try {
    return (await verify(device, options, sections)) ? 0 : FAILED;
  } finally {
    if (!options.keep) rmSync(scratch, { recursive: true, force: true });
    device[Symbol.dispose]();
  }
}

function open(options: Options): CudaDevice {
  const library = options["ort-library"];
  const { device } = openDevice({
    choice: options.device,
    cacheRoot,
    ...(library === undefined ? {} : { ortLibrary: library }),
  });
  if (!(device instanceof CudaDevice)) throw new Error(`${device.name} was opened instead`);
  return device;
}

/** Runs the sections, writing the report after every line of theirs; whether all goals were met. */
async function verify(device: CudaDevice, options: Options, sections: readonly Section[]): Promise<boolean> {
  const { quick, tiny, out, seconds = Number.POSITIVE_INFINITY } = options;
  const end = performance.now() + seconds * 1000;
  const bench: Bench = {
    device,
    quick,
    tiny,
    cacheRoot,
    scratch,
    ceilings: new Ceilings(device, scratch, tiny),
    expired: () => performance.now() > end,
  };
  const about = [
    `${device.description || device.name}, ${new Date().toISOString()}${quick ? ", --quick" : ""}.`,
    ...(tiny ? ["Run with --tiny: shapes are of a few layers, and figures mean nothing."] : []),
  ];
  const outcomes: Outcome[] = [];
  const save = () =>
    writeReport(out, verifyReport(outcomes, about)).catch((error: unknown) => {
      process.stderr.write(`the report was not written: ${errorLine(error)}\n`);
      return [];
    });
  for (const section of sections) {
    const outcome = { ...section, findings: new Findings(() => void save()), seconds: 0 };
    outcomes.push(outcome);
    await run(section, bench, outcome);
    await save();
    show(outcome);
    settle(device);
  }
  const { about: summary } = verifyReport(outcomes, []);
  const written = await save();
  const lines = summary.filter((line) => !line.startsWith("**")); // sections have been shown
  const more = lines.length > SHOWN ? [`and ${lines.length - SHOWN} more`] : [];
  process.stdout.write(`${[...lines.slice(0, SHOWN), ...more, ...written].join("\n")}\n`);
  return isMet(outcomes);
}

async function run(section: Section, bench: Bench, outcome: Outcome): Promise<void> {
  const { findings } = outcome;
  const began = performance.now();
  await runParts(bench, findings, [{ name: "the rest of it", run: () => section.run(bench, findings) }]);
  outcome.seconds = (performance.now() - began) / 1000;
}

function show({ name, findings, seconds }: Outcome): void {
  for (const table of findings.tables) process.stdout.write(`${terminalTable(toTable(table))}\n`);
  for (const line of [...findings.notes, ...findings.failures.map((each) => `FAILED: ${each}`)])
    process.stdout.write(`  ${line}\n`);
  process.stdout.write(`${name}: ${seconds.toFixed(1)} s\n\n`);
}

/** Gives back what a section has left, so that the next one starts as the first did. */
function settle(device: CudaDevice): void {
  globalThis.gc?.();
  try {
    device.runtime.trim();
  } catch (error) {
    process.stderr.write(`the GPU's memory was not given back: ${errorLine(error)}\n`);
  }
}
