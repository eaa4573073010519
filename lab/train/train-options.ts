import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { SetupError } from "../../runtime/contract/errors.js";
import { SKIPPED_AT_START } from "../activations/context-activations.js";
import type { HookColumns } from "../activations/hook-columns.js";
import { DEFAULT_VECTORS } from "../activations/shuffle-buffer.js";
import { TextDocuments } from "../activations/text-documents.js";
import type { LabModel, ModelChoice } from "../model/lab-model.js";
import { textStart } from "../model/text-start.js";
import type { AdamConfig, DeadFeatures, StepConfig, TrainedActivation } from "../step/step-config.js";
import type { StoredType } from "./saelens-folder.js";
import type { TrainingConfig } from "./training-config.js";

/** What is trained, on what, and where it goes. */
export interface TrainOptions {
  readonly model: ModelChoice;
  readonly hook: string;
  readonly head?: number | undefined;
  /** Files and folders; or `prompts`: a file of prompts with positions. */
  readonly text: readonly string[];
  readonly prompts?: string | undefined;
  /** How often the text is read, at most. Default: 1. */
  readonly passes?: number | undefined;
  /** Tokens of a context, and those left out at its start. */
  readonly context?: number | undefined;
  readonly skipStart?: number | undefined;
  readonly tokens: number;
  /** Rows that are mixed on the disk; default: 262,144. */
  readonly buffer?: number | undefined;
  readonly batch?: number | undefined;
  readonly width: number;
  readonly activation: TrainedActivation;
  readonly normalisation?: StepConfig["normalisation"] | undefined;
  readonly learningRate?: number | undefined;
  readonly warmUp?: number | undefined;
  readonly decay?: number | undefined;
  readonly dead?: Partial<DeadFeatures> | undefined;
  readonly seed?: number | undefined;
  readonly out: string;
  readonly resume?: boolean | undefined;
  readonly storedAs?: StoredType | undefined;
  /** Held-out tokens that features.jsonl is made of; 0: it is not. Default: a million. */
  readonly featureTokens?: number | undefined;
}

export const DEFAULT_BATCH = 2048;
/** The authors' own rate is 3e-4, for batches of 4,096 and 20,001 steps. */
const LEARNING_RATE = 6e-4;
const WARM_UP = 50;
const DECAY = 0.3;
/** Aux-k of the authors; features die later here: of rare ones it would be wrong within five batches. */
const DEAD: DeadFeatures = { penalty: 1 / 32, most: 256, after: 20 };
/** Those of the authors; jumprelu's are SAELens'. */
const ADAM: AdamConfig = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, clip: null };
const JUMPRELU_ADAM: AdamConfig = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, clip: 1 };

/** The configuration that options come to on a model. @throws SetupError where text or prompts are not there */
export function trainingConfig(options: TrainOptions, model: LabModel, columns: HookColumns): TrainingConfig {
  const { prompts, text, activation, seed = 1 } = options;
  const { name, compiled } = model;
  const context = prompts === undefined ? (options.context ?? model.longestContext) : null;
  const data = prompts === undefined ? TextDocuments.open(text).hash : fileHash(prompts);
  return {
    model: { name, content: compiled.content, precision: compiled.precision },
    hook: columns.hook,
    head: options.head ?? null,
    data,
    text: (prompts === undefined ? text : [prompts]).map((path) => basename(path)),
    ...{ context, skipStart: prompts === undefined ? (options.skipStart ?? SKIPPED_AT_START) : 0 },
    startsTexts: prompts === undefined && textStart(compiled).length > 0,
    ...{ tokens: options.tokens, passes: options.passes ?? 1, buffer: options.buffer ?? DEFAULT_VECTORS, seed },
    learningRate: options.learningRate ?? LEARNING_RATE,
    ...{ warmUp: options.warmUp ?? WARM_UP, decay: options.decay ?? DECAY },
    step: {
      ...{ dIn: columns.width, dSae: options.width, batch: options.batch ?? DEFAULT_BATCH, activation },
      normalisation: options.normalisation ?? "layer_norm",
      dead: { ...DEAD, ...options.dead },
      adam: activation.kind === "jumprelu" ? JUMPRELU_ADAM : ADAM,
    },
  };
}

function fileHash(path: string): string {
  try {
    return createHash("sha256").update(readFileSync(path)).digest("hex");
  } catch (error) {
    throw new SetupError(`${path} cannot be read: ${error instanceof Error ? error.message : error}`);
  }
}
