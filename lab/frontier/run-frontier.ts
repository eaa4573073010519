import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { Journal } from "../../loadtest/report/journal.js";
import { type Report, writeReport } from "../../loadtest/report/report.js";
import { SetupError } from "../../runtime/contract/errors.js";
import { ActivationFile } from "../activations/activation-file.js";
import type { Part } from "../activations/contexts.js";
import { HookColumns } from "../activations/hook-columns.js";
import { LabModel, type ModelChoice, type Onlookers } from "../model/lab-model.js";
import { trainingConfig } from "../train/train-options.js";
import { checkTraining } from "../train/training-config.js";
import { openRows } from "../train/training-source.js";
import { frontierReport, resultLine } from "./frontier-report.js";
import { type FrontierPlan, METHODS, nextRun, RunResult, runsOf, runTitle } from "./frontier-run.js";
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
 * @throws SetupError where a choice makes no sense, or the folder holds a run with other settings
 */
export async function runFrontier(
  choice: FrontierChoice,
  on: FrontierOnlookers = {},
): Promise<{ readonly report: Report; readonly paths: readonly string[] }> {
  const { out, seeds } = choice;
  using model = await LabModel.open(choice.model, [choice.hook], on);
  const ground = groundOf(choice, model);
  mkdirSync(out, { recursive: true });
  const journal = openJournal(join(out, "runs.jsonl"), ground);
  const onActivations = on.onActivations ?? (() => {});
  using activations = await rowsOf(choice, ground, model, "train", on.onNotice, onActivations);
  using heldOut = await rowsOf(choice, ground, model, "held-out", on.onNotice, onActivations);
  const place = { threads: model.threads, device: model.device, folder: out };
  const ignoresMean = model.compiled.shape.ignoresMean === "always";
  const runs: RunGround = {
    ...{ ...ground, ...place, ignoresMean, activations, afaTarget: choice.afaTarget },
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

/** The configuration that the runs share, but for activation and seed. @throws SetupError naming the flag that makes no sense */
function groundOf(choice: FrontierChoice, model: LabModel) {
  const { settings, steps, batch, afaTarget, seeds } = choice;
  const columns = new HookColumns(model, model.hooks[0]!);
  const options = {
    ...{ ...choice, tokens: steps * batch, seed: seeds[0] },
    activation: { kind: "top-afa" as const, lambda: 1 / 32, target: afaTarget },
  };
  const config = trainingConfig(options, model, columns);
  for (const method of METHODS)
    for (const k of method === "top-afa" ? [] : settings[method])
      checkTraining({
        ...config,
        step: { ...config.step, activation: { kind: method === "topk" ? method : "batch-topk", k } },
      });
  checkTraining(config);
  if (choice.vectors < batch)
    throw new SetupError(`--vectors ${choice.vectors} are fewer than one batch of ${batch} rows`);
  return { columns, options, config };
}

type Ground = ReturnType<typeof groundOf>;

function rowsOf(
  { out, vectors, heldOut }: FrontierChoice,
  { columns, options, config }: Ground,
  model: LabModel,
  part: Exclude<Part, "all">,
  onNotice: (line: string) => void = () => {},
  onProgress: (share: number) => void,
): Promise<ActivationFile> {
  const path = join(out, `${part}.f32`);
  const rows = part === "train" ? vectors : heldOut;
  const bytes = rows * columns.width * Float32Array.BYTES_PER_ELEMENT;
  if (part === "train" && !existsSync(path))
    onNotice(`${rows} activations take ${(bytes / 1e6).toFixed(0)} MB of ${out}, where they stay for the next run`);
  const source = openRows({ model, columns, config, options, onNotice }, part);
  return ActivationFile.open(path, columns.width, rows, () => source(), onProgress);
}

/** Results are of one configuration, whatever the lists of settings. */
function openJournal(path: string, { config, options }: Ground): Journal<RunResult> {
  const { seed: _, step, ...rest } = config;
  const { activation: __, ...shared } = step;
  const { vectors, heldOut, afaTarget } = options;
  try {
    return Journal.open(path, { ...rest, step: shared, vectors, heldOut, afaTarget }, RunResult);
  } catch (error) {
    throw new SetupError(error instanceof Error ? error.message : String(error));
  }
}
