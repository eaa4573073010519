import type { TrainedSae, TrainingOnlookers } from "../../../lab/train/train-sae.js";
import type { TrainingPlan } from "../../../lab/train/training-plan.js";
import { isResidualHook } from "../../../models/hooks.js";
import { command } from "../command.js";
import { createProgress, type Progress } from "../progress.js";
import { type TrainFlags, TrainFlags as TrainSchema, trainOptions } from "./train-flags.js";
import { TrainingProgress } from "./training-progress.js";

const INTERRUPTED = 130;
/** Steps between two lines of --json. */
const EVERY = 10;

/** `lab train`: makes an SAE of what a hook holds over a text. */
export const train = command("lab train", "trains a sparse autoencoder", TrainSchema, async (flags) => {
  const options = trainOptions(flags);
  const { trainSae } = await import("../../../lab/train/train-sae.js");
  const interruption = new AbortController();
  const interrupt = () => {
    if (interruption.signal.aborted) process.exit(INTERRUPTED);
    interruption.abort();
    process.stderr.write("interrupted: ending soon; a second interruption ends at once\n");
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
  const shown = onlookers(flags, interruption.signal);
  try {
    return ended(await trainSae(options, shown.on), options.out, flags);
  } finally {
    shown.stop();
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
  }
});

/** What is shown of a training while it runs. */
function onlookers(
  { json }: TrainFlags,
  signal: AbortSignal,
): { readonly on: TrainingOnlookers; readonly stop: () => void } {
  const compiling = createProgress("compiling", process.stderr);
  let training: TrainingProgress | undefined;
  let last: { readonly job: string; readonly progress: Progress } | undefined;
  const stop = () => {
    compiling.stop();
    training?.stop();
    last?.progress.stop();
  };
  return {
    stop,
    on: {
      signal,
      onProgress: compiling.show,
      onNotice: (line) => process.stderr.write(`${line}\n`),
      onPlan(plan) {
        compiling.stop();
        process.stderr.write(planLines(plan));
        training = new TrainingProgress(plan, process.stderr);
      },
      onStep(step, result) {
        training?.show(step, result);
        if (json && step % EVERY === 0) process.stdout.write(`${JSON.stringify({ step, ...result })}\n`);
      },
      onShare(job, share) {
        if (last?.job !== job) {
          stop();
          last = { job, progress: createProgress(job, process.stderr) };
        }
        last.progress.show(share);
      },
    },
  };
}

function planLines({ config, steps, made, disk, memory }: TrainingPlan): string {
  const { dIn, dSae, batch, activation } = config.step;
  const head = config.head === null ? "" : `, head ${config.head}`;
  const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6).toLocaleString("en")} MB`;
  return [
    `${config.hook}${head} of ${config.model.name}: ${dSae} features of ${dIn}, ${activation.kind}`,
    `${steps} steps of ${batch} rows${made > 0 ? `, of which ${made} are made` : ""}; at most ${megabytes(disk)} on the disk and ${megabytes(memory)} of memory beside the model`,
    "",
  ].join("\n");
}

function ended(
  { steps, finished, resumable, curve, config }: TrainedSae,
  out: string,
  { json, model }: TrainFlags,
): number {
  if (!finished) {
    const how = resumable === null ? "it had no checkpoint yet" : `--resume goes on from step ${resumable}`;
    process.stderr.write(`interrupted after step ${steps}: ${how}\n`);
    return INTERRUPTED;
  }
  const last = curve.at(-1);
  if (json) process.stdout.write(`${JSON.stringify({ finished, steps, out })}\n`);
  const figures = last === undefined ? "" : `: unexplained ${last.unexplained.toFixed(3)}, l0 ${last.l0.toFixed(1)}`;
  const named = model === undefined ? "" : ` --model ${model}`;
  const next = isResidualHook(config.hook)
    ? `lambdatap serve${named} --sae ${out} shows what it reads`
    : `SAEs within attention, as at ${config.hook}, cannot be served or judged here yet`;
  process.stderr.write(`${out} is trained${figures}\n${next}\n`);
  return 0;
}
