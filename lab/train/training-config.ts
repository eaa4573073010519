import { z } from "zod";
import { SetupError } from "../../runtime/contract/errors.js";
import { WIDEST } from "../step/cut/candidates.js";
import type { StepConfig } from "../step/step-config.js";

const whole = z.int().min(1);

/** What one step computes, as a checkpoint holds it. */
const Step = z.object({
  dIn: whole,
  dSae: whole,
  batch: whole,
  normalisation: z.enum(["layer_norm", "none"]),
  activation: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("top-afa"), lambda: z.number(), target: z.enum(["input", "centred"]) }),
    z.object({ kind: z.literal("topk"), k: whole }),
    z.object({ kind: z.literal("batch-topk"), k: whole, widths: z.array(whole).readonly().exactOptional() }),
    z.object({ kind: z.literal("jumprelu"), l0Coefficient: z.number(), bandwidth: z.number() }),
  ]),
  dead: z.object({ penalty: z.number(), most: z.int(), after: z.int() }),
  adam: z.object({ beta1: z.number(), beta2: z.number(), epsilon: z.number(), clip: z.number().nullable() }),
}) satisfies z.ZodType<StepConfig>;

/** All that decides what a training gives, beside the machine. A run goes on only with the very same. */
export const TrainingConfig = z.object({
  model: z.object({ name: z.string(), content: z.string(), precision: z.string() }),
  hook: z.string(),
  head: z.int().nullable(),
  /** sha256 of the text, or of the prompts. */
  data: z.string(),
  /** Names of the files, for people. */
  text: z.array(z.string()),
  /** Tokens of a context; null: prompts have their own lengths. */
  context: whole.nullable(),
  skipStart: z.int().min(0),
  /** Whether the model wants a token (BOS) before every text. */
  startsTexts: z.boolean(),
  /** Rows to be seen. */
  tokens: whole,
  /** How often the text is read, at most. */
  passes: whole,
  /** Rows that are mixed on the disk. */
  buffer: whole,
  seed: z.int(),
  learningRate: z.number().positive(),
  /** Steps in which the learning rate rises. */
  warmUp: z.int().min(0),
  /** Share of the steps in which it falls, at the end. */
  decay: z.number().min(0).max(1),
  step: Step,
});
export type TrainingConfig = z.infer<typeof TrainingConfig>;

/** Steps of a training. */
export const stepsOf = ({ tokens, step }: Pick<TrainingConfig, "tokens" | "step">): number =>
  Math.floor(tokens / step.batch);

/** The learning rate at a step, from 1: it rises, stays, and falls to a hundredth, all along straight lines. */
export function learningRateAt(config: TrainingConfig, step: number): number {
  const steps = stepsOf(config);
  const falling = Math.round(config.decay * steps);
  const risen = Math.min(1, step / Math.max(1, config.warmUp));
  const left = falling === 0 ? 1 : Math.min(1, (steps - step) / falling);
  return config.learningRate * risen * Math.max(0.01, left);
}

/** Share of the steps after which jumprelu's L0 loss counts wholly. */
const SPARSITY_WARM_UP = 0.25;

/** Share of the coefficient of jumprelu's L0 loss at a step, from 1. */
export function sparsityAt(config: TrainingConfig, step: number): number {
  return Math.min(1, (step - 1) / Math.max(1, SPARSITY_WARM_UP * stepsOf(config)));
}

/** @throws SetupError in a sentence that names the flag that makes no sense */
export function checkTraining(config: TrainingConfig): void {
  const { step, tokens } = config;
  const { dIn, dSae, batch, activation } = step;
  if (dSae > WIDEST) throw new SetupError(`--width ${dSae} is more than the ${WIDEST} features that can be trained`);
  if (dSae < 2) throw new SetupError(`--width ${dSae} is no dictionary: it takes 2 features or more`);
  if (dIn < 2) throw new SetupError(`${config.hook} holds ${dIn} number at a token: there is nothing to take apart`);
  if ((activation.kind === "topk" || activation.kind === "batch-topk") && !(activation.k >= 1 && activation.k <= dSae))
    throw new SetupError(`--k ${activation.k} is none of 1 to ${dSae}, the width`);
  if (activation.kind === "batch-topk") checkWidths(activation.widths ?? [], dSae);
  if (activation.kind === "jumprelu" && !(activation.bandwidth > 0))
    throw new SetupError(`--bandwidth ${activation.bandwidth} leaves thresholds no gradient: it is above 0`);
  if (!(config.learningRate > 0)) throw new SetupError(`--lr ${config.learningRate} trains nothing: it is above 0`);
  if (stepsOf(config) < 1) throw new SetupError(`--tokens ${tokens} are fewer than one batch of ${batch} rows`);
}

/** Levels of a Matryoshka SAE. */
const MOST_LEVELS = 32;

function checkWidths(widths: readonly number[], dSae: number): void {
  const rises = widths.every((width, level) => width > (widths[level - 1] ?? 0) && width <= dSae);
  if (!rises) throw new SetupError(`--widths ${widths.join(",")} do not rise from 1 to at most ${dSae}, the width`);
  if (widths.length >= MOST_LEVELS)
    throw new SetupError(`--widths are ${widths.length}, and there are at most ${MOST_LEVELS} levels`);
}

/** @throws SetupError naming what differs between the run that is to be resumed and the one that is asked for */
export function checkSameRun(before: TrainingConfig, now: TrainingConfig): void {
  const [earlier, later] = [leavesOf(before), leavesOf(now)];
  const other = [...new Set([...earlier.keys(), ...later.keys()])].find(
    (name) => earlier.get(name) !== later.get(name),
  );
  if (other !== undefined)
    throw new SetupError(
      `the run that is to be resumed had another ${other}: ${earlier.get(other) ?? "none"}, not ${later.get(other) ?? "none"}`,
    );
}

/** Values by the path of their names. */
function leavesOf(value: unknown, at = ""): Map<string, string> {
  if (typeof value !== "object" || value === null) return new Map([[at, String(value)]]);
  return new Map(
    Object.entries(value).flatMap(([name, each]) => [...leavesOf(each, at === "" ? name : `${at}.${name}`)]),
  );
}
