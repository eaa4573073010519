import { setImmediate } from "node:timers/promises";
import { z } from "zod";
import { isJsonObject, type JsonObject } from "../../models/model-file.js";
import { SetupError } from "../../runtime/contract/errors.js";
import type { LabModel } from "../model/lab-model.js";
import type { ActivationSource } from "./activation-source.js";
import { type Context, type ContextChoice, Contexts } from "./contexts.js";
import { allFinite, type HookColumns } from "./hook-columns.js";
import { resumedState } from "./resumed-state.js";

/** Contexts that run together. */
const TOGETHER = 8;
/** Tokens at a context's start that are left out: their residuals are outliers that attention of the rest sinks into. */
export const SKIPPED_AT_START = 10;

export interface ActivationChoice extends ContextChoice {
  /** Tokens left out at the start of each context, the model's beginning of text included; default: 10. */
  readonly skipStart?: number | undefined;
}

const State = z.object({ contexts: z.custom<JsonObject>(isJsonObject), taken: z.int() });

/** What a hook holds at the tokens of a text's contexts. */
export class ContextActivations implements ActivationSource {
  /** What has run and is not given yet, from `#taken` on. */
  #block = new Float32Array();
  #taken = 0;
  /** Of the contexts, before those of the block. */
  #before: JsonObject;

  private constructor(
    readonly model: LabModel,
    readonly contexts: Contexts,
    readonly columns: HookColumns,
    readonly skipStart: number,
  ) {
    this.#before = contexts.state();
  }

  /** @param resumed as `Contexts.open`. @throws SetupError likewise, and where no token would be left of a context */
  static async open(
    model: LabModel,
    columns: HookColumns,
    choice: ActivationChoice,
    resumed?: JsonObject,
  ): Promise<ContextActivations> {
    const { skipStart = SKIPPED_AT_START, ...which } = choice;
    const state = resumedState(State, resumed);
    const contexts = Contexts.open(model, which, state?.contexts);
    if (skipStart >= contexts.length)
      throw new SetupError(`--skip-start ${skipStart} leaves nothing of contexts of ${contexts.length} tokens`);
    const source = new ContextActivations(model, contexts, columns, skipStart);
    if (state !== null && state.taken > 0) {
      await source.#run();
      source.#taken = state.taken * source.width;
    }
    return source;
  }

  get width(): number {
    return this.columns.width;
  }

  /** @throws SetupError naming the context where a value is not finite */
  async fill(into: Float32Array): Promise<number> {
    let filled = 0;
    while (filled < into.length) {
      if (this.#taken === this.#block.length && !(await this.#run())) break;
      const rows = this.#block.subarray(this.#taken, this.#taken + into.length - filled);
      into.set(rows, filled);
      filled += rows.length;
      this.#taken += rows.length;
    }
    return filled / this.width;
  }

  state(): JsonObject {
    const done = this.#taken === this.#block.length;
    return {
      contexts: done ? this.contexts.state() : this.#before,
      taken: done ? 0 : this.#taken / this.width,
    } satisfies z.infer<typeof State>;
  }

  /** Runs the next contexts; false: there are none. */
  async #run(): Promise<boolean> {
    this.#before = this.contexts.state();
    const group: Context[] = [];
    for (let next = await this.#next(group); next !== null; next = await this.#next(group)) group.push(next);
    if (group.length === 0) return false;
    await setImmediate(); // progress is shown and signals are heard between runs
    const { model, columns, skipStart } = this;
    const { length } = this.contexts;
    const whole = columns.of(model.activations(group.map(({ ids }) => ids)));
    const kept = (length - skipStart) * this.width;
    this.#block = new Float32Array(group.length * kept);
    this.#taken = 0;
    for (const [i, { document, at }] of group.entries()) {
      const end = (i + 1) * length * this.width;
      const rows = whole.subarray(end - kept, end);
      if (!allFinite(rows))
        throw new SetupError(`${columns.hook} holds a number that is not finite in ${document}, from token ${at} on`);
      this.#block.set(rows, i * kept);
    }
    return true;
  }

  async #next(group: readonly Context[]): Promise<Context | null> {
    return group.length < TOGETHER ? this.contexts.next() : null;
  }
}
