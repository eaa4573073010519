import type { JsonObject } from "../../models/model-file.js";
import { SetupError } from "../../runtime/contract/errors.js";
import type { ActivationSource } from "../activations/activation-source.js";
import { ContextActivations } from "../activations/context-activations.js";
import type { Part } from "../activations/contexts.js";
import type { HookColumns } from "../activations/hook-columns.js";
import { PromptActivations } from "../activations/prompt-activations.js";
import { RepeatedActivations } from "../activations/repeated-activations.js";
import type { LabModel } from "../model/lab-model.js";
import type { TrainOptions } from "./train-options.js";
import type { BatchSource } from "./trainer.js";
import type { TrainingConfig } from "./training-config.js";

/** Which rows a training reads, of which model. */
export interface RowChoice {
  readonly model: LabModel;
  readonly columns: HookColumns;
  readonly config: TrainingConfig;
  readonly options: TrainOptions;
  readonly onNotice: (line: string) => void;
  /** Once it is given, reading on throws its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Opens the rows of a part of the text, or those of the prompts, where they were in this state. */
export function openRows({ model, columns, config, options, onNotice, signal }: RowChoice, part: Part) {
  const { text, prompts, context, skipStart } = options;
  const openPass = (pass: number, state?: JsonObject): Promise<ActivationSource> => {
    const seed = config.seed + pass;
    return prompts === undefined
      ? ContextActivations.open(model, columns, { text, context, skipStart, part, seed, onNotice }, state)
      : PromptActivations.open(model, columns, prompts, seed, state);
  };
  const passes = part === "train" ? config.passes : 1;
  return async (state?: JsonObject): Promise<ActivationSource> =>
    endedBy(signal, await RepeatedActivations.open(passes, openPass, onNotice, state));
}

const endedBy = (signal: AbortSignal | undefined, source: ActivationSource): ActivationSource => ({
  width: source.width,
  state: () => source.state(),
  async fill(into) {
    signal?.throwIfAborted();
    return source.fill(into);
  },
});

/** The rows of a source in batches, in the order in which they come; what does not fill a batch is left out. */
export const inBatches = (source: ActivationSource): BatchSource => ({
  next: async (into) => (await source.fill(into)) * source.width === into.length,
});

/** Batches of which the first can be looked at before it is taken. */
export class PeekableBatches implements BatchSource {
  #peeked: Float32Array | null = null;

  constructor(
    readonly source: BatchSource,
    /** Numbers of a batch. */
    readonly size: number,
  ) {}

  /** @throws SetupError where there is none */
  async peek(): Promise<Float32Array> {
    const rows = this.#peeked ?? new Float32Array(this.size);
    if (this.#peeked === null && !(await this.source.next(rows)))
      throw new SetupError("there is not one batch of rows to train on");
    this.#peeked = rows;
    return rows;
  }

  async next(into: Float32Array): Promise<boolean> {
    if (this.#peeked === null) return this.source.next(into);
    into.set(this.#peeked);
    this.#peeked = null;
    return true;
  }
}
