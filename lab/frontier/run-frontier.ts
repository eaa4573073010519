import { existsSync } from "node:fs";
import { join } from "node:path";
import { Journal } from "../../loadtest/report/journal.js";
import { type Report, writeReport } from "../../loadtest/report/report.js";
import { SetupError } from "../../runtime/contract/errors.js";
import { ActivationFile } from "../activations/activation-file.js";
import type { Part } from "../activations/contexts.js";
import { HookColumns } from "../activations/hook-columns.js";
import { LabModel, type ModelChoice, type Onlookers } from "../model/lab-model.js";
import { holdFolder } from "../train/held-folder.js";
import { trainingConfig } from "../train/train-options.js";
import { checkTraining } from "../train/training-config.js";
import { openRows } from "../train/training-source.js";
import { frontierReport, resultLine } from "./frontier-report.js";
import { type FrontierPlan, nextRun, RunResult, runsOf, runTitle } from "./frontier-run.js";
import { type RunGround, trainRun } from "./train-run.js";

export interface FrontierChoice extends FrontierPlan {
  readonly model: ModelChoice;
  readonly hook: string;
  readonly text: readonly string[];
  readonly width: number;
  readonly steps: number;
  readonly batch: number;
  /** Activations to train on, and to judge by. */
  readonly vectors: number;
  readonly heldOut: number;
  readonly afaTarget: "input" | "centred";
  readonly learningRate?: number | undefined;
  /** Folder of the activations, the results and the report. */
  readonly out: string;
}

export interface FrontierOnlookers extends Onlookers {
  /** Of the file of activations: the share that is written. */
  readonly onActivations?: (share: number) => void;
  /** Before a training: what it is, and how many there were, of how many. */
  readonly onRun?: (title: string, done: number, all: number) => void;
  /** The share of its steps that are made. */
  readonly onStep?: (share: number) => void;
  /** What came of it, in a line. */
  readonly onResult?: (line: string) => void;
  /** Ends it, and the training that is running without a result; what has run is kept. */
  readonly signal?: AbortSignal;
}

/**
 * Trains an SAE for every setting on the same activations, and reports their errors and sparsities. Called again, it goes on
 * behind the last training that ended.
 * @returns the report, and the paths of its files
 * @throws SetupError where a choice makes no sense, or the folder holds a run with other settings or is in use
 */
export async function runFrontier(
  choice: FrontierChoice,
  on: FrontierOnlookers = {},
): Promise<{ readonly report: Report; readonly paths: readonly string[] }> {
  const { out, seeds } = choice;
  using model = await LabModel.open(choice.model, [choice.hook], on);
  const ground = groundOf(choice, model);
  using _ = holdFolder(out);
  const runsFile = join(out, "runs.jsonl");
  if (!existsSync(runsFile)) checkNothingLeft(out);
  const journal = openJournal(runsFile, ground);
  using activations = await rowsOf("train", choice, ground, on);
  using heldOut = await rowsOf("held-out", choice, ground, on);
  const place = { threads: model.threads, device: model.device, folder: out };
  const ignoresMean = model.compiled.shape.ignoresMean === "always";
  const runs: RunGround = {
    ...{ config: ground.config, ...place, ignoresMean, activations, afaTarget: choice.afaTarget },
    heldOut: heldOut.first(choice.heldOut),
  };
  for (let run = nextRun(choice, journal.entries); run !== null; run = nextRun(choice, journal.entries)) {
    if (on.signal?.aborted === true) break;
    on.onRun?.(runTitle(run), journal.entries.length, runsOf(choice));
    const onStep = (step: number) => on.onStep?.(step / choice.steps);
    const result = await trainRun(run, runs, { onStep, signal: on.signal });
    if (result === null) break;
    journal.add(result);
    on.onResult?.(resultLine(result));
  }
  const { hook, width, steps, batch } = choice;
  const report = frontierReport(
    {
      ...{ model: model.name, hook, width, steps, batch, seeds },
      ...{ vectors: activations.rows, heldOut: runs.heldOut.length / ground.columns.width },
    },
    journal.entries,
  );
  return { report, paths: await writeReport(out, report) };
}

/** Which rows of the text the files hold, whatever the seeds of the runs: what is there serves the next of them. */
const FILE_SEED = 1;

/** The configuration that the runs share, but for activation and seed. @throws SetupError naming the flag that makes no sense */
function groundOf(choice: FrontierChoice, model: LabModel) {
  const { settings, steps, batch, afaTarget } = choice;
  const columns = new HookColumns(model, model.hooks[0]!);
  const options = {
    ...{ ...choice, tokens: steps * batch, seed: FILE_SEED },
    activation: { kind: "top-afa" as const, lambda: 1 / 32, target: afaTarget },
  };
  const config = trainingConfig(options, model, columns);
  for (const k of [...settings.topk, ...settings["batch-topk"]])
    checkTraining({ ...config, step: { ...config.step, activation: { kind: "topk", k } } });
  checkTraining(config);
  if (choice.vectors < batch)
    throw new SetupError(`--vectors ${choice.vectors} are fewer than one batch of ${batch} rows`);
  return { model, columns, options, config };
}

type Ground = ReturnType<typeof groundOf>;

const activationsFile = (out: string, part: Exclude<Part, "all">): string => join(out, `${part}.f32`);

/** @throws SetupError where there are activations of which no journal says what they are */
function checkNothingLeft(out: string): void {
  const left = (["train", "held-out"] as const)
    .map((part) => activationsFile(out, part))
    .find((path) => existsSync(path));
  if (left !== undefined)
    throw new SetupError(
      `${left} holds activations, and there is no runs.jsonl that says of what: say another --out, or delete it`,
    );
}

/** The file of activations of a part of the text; it is made where it is missing. */
async function rowsOf(
  part: Exclude<Part, "all">,
  { out, vectors, heldOut }: FrontierChoice,
  { model, columns, options, config }: Ground,
  { onNotice = () => {}, onActivations }: FrontierOnlookers,
): Promise<ActivationFile> {
  const path = activationsFile(out, part);
  const asked = part === "train" ? vectors : heldOut;
  const megabytes = (asked * columns.width * Float32Array.BYTES_PER_ELEMENT) / 1e6;
  if (part === "train" && !existsSync(path))
    onNotice(`${asked} activations take ${megabytes.toFixed(0)} MB of ${out}, where they stay for the next run`);
  const source = openRows({ model, columns, config, options, onNotice }, part);
  const file = await ActivationFile.open(path, columns.width, asked, () => source(), onActivations);
  if (file.rows < asked)
    onNotice(`the text has ${file.rows} activations ${part === "train" ? "to train on" : "held out"}, of ${asked}`);
  return file;
}

/** Results are of one configuration, whatever the lists of settings. */
function openJournal(path: string, { config, options }: Ground): Journal<RunResult> {
  const { seed: _, step, ...rest } = config;
  const { activation: __, ...shared } = step;
  const { vectors, heldOut, afaTarget } = options;
  try {
    // Makes the folder, too.
    return Journal.open(path, { ...rest, step: shared, vectors, heldOut, afaTarget }, RunResult);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const isOfSystem = error instanceof Error && "code" in error;
    throw new SetupError(isOfSystem ? `--out ${options.out} cannot be used: ${reason}` : reason);
  }
}
