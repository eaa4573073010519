import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { z } from "zod";
import type { JsonObject } from "../../models/model-file.js";
import { InvalidRequest, SetupError } from "../../runtime/contract/errors.js";
import type { LabModel } from "../model/lab-model.js";
import { textStart } from "../model/text-start.js";
import type { ActivationSource } from "./activation-source.js";
import { allFinite, type HookColumns } from "./hook-columns.js";
import { permutation } from "./permutation.js";
import { resumedState } from "./resumed-state.js";
import { jsonOf, textLines } from "./text-lines.js";

/** Prompts of one length that run together, at most. */
const TOGETHER = 16;

const Line = z.union([
  z.strictObject({ text: z.string(), positions: z.array(z.int()).min(1) }),
  z.strictObject({ ids: z.array(z.int().nonnegative()).min(1), positions: z.array(z.int()).min(1) }),
]);
const State = z.object({ prompts: z.string(), taken: z.int() });

/** A prompt, and the tokens of it that are read. */
interface Prompt {
  readonly ids: ArrayLike<number>;
  readonly positions: readonly number[];
  /** The line of the file that it stands in. */
  readonly line: number;
}

/**
 * What a hook holds at chosen tokens of prompts: {"text" or "ids", "positions"} in each line of a file. The model's frame is put
 * before a text, not before ids; positions count it, and negative ones count from the end.
 */
export class PromptActivations implements ActivationSource {
  #taken = 0;
  readonly #groups: readonly (readonly Prompt[])[];
  #next = 0;
  #block = new Float32Array();

  private constructor(
    readonly model: LabModel,
    readonly columns: HookColumns,
    readonly file: string,
    /** sha256 (hex) of the file. */
    readonly hash: string,
    prompts: readonly Prompt[],
    seed: number,
  ) {
    this.#groups = groupsOf(prompts, seed);
  }

  /**
   * Reads and encodes all prompts.
   * @param seed decides their order @param resumed the state of an earlier one
   * @throws SetupError naming the line that is not a prompt of this model, or has a position that it does not have
   */
  static async open(
    model: LabModel,
    columns: HookColumns,
    file: string,
    seed: number,
    resumed?: JsonObject,
  ): Promise<PromptActivations> {
    const prompts: Prompt[] = [];
    const hash = createHash("sha256");
    for (const { bytes, number } of textLines(file, (block) => hash.update(block))) {
      const text = new TextDecoder().decode(bytes);
      if (text.trim() !== "") prompts.push(await promptOf(model, text, `line ${number} of ${file}`, number));
    }
    if (prompts.length === 0) throw new SetupError(`${file} has no prompts`);
    const source = new PromptActivations(model, columns, file, hash.digest("hex"), prompts, seed);
    const state = resumedState(State, resumed);
    if (state === null) return source;
    if (state.prompts !== source.hash) throw new SetupError("the run that is to be resumed had other prompts");
    await source.#goTo(state.taken);
    return source;
  }

  get width(): number {
    return this.columns.width;
  }

  async fill(into: Float32Array): Promise<number> {
    let filled = 0;
    while (filled < into.length) {
      if (this.#block.length === 0 && !(await this.#run())) break;
      const rows = this.#block.subarray(0, into.length - filled);
      into.set(rows, filled);
      filled += rows.length;
      this.#block = this.#block.subarray(rows.length);
    }
    this.#taken += filled / this.width;
    return filled / this.width;
  }

  state(): JsonObject {
    return { prompts: this.hash, taken: this.#taken } satisfies z.infer<typeof State>;
  }

  async #goTo(taken: number): Promise<void> {
    this.#taken = taken;
    let before = 0;
    for (const group of this.#groups) {
      const rows = group.reduce((sum, { positions }) => sum + positions.length, 0);
      if (before + rows > taken) break;
      before += rows;
      this.#next++;
    }
    if (before < taken && (await this.#run())) this.#block = this.#block.subarray((taken - before) * this.width);
  }

  async #run(): Promise<boolean> {
    const group = this.#groups[this.#next];
    if (group === undefined) return false;
    this.#next++;
    await setImmediate();
    const { columns, width } = this;
    const whole = columns.of(this.model.activations(group.map(({ ids }) => ids)));
    const rows: Float32Array[] = group.flatMap(({ ids, positions, line }, i) =>
      positions.map((position) => {
        const row = i * ids.length + (position < 0 ? ids.length + position : position);
        const values = whole.subarray(row * width, (row + 1) * width);
        if (allFinite(values)) return values;
        throw new SetupError(`${columns.hook} holds a number that is not finite in line ${line} of ${this.file}`);
      }),
    );
    this.#block = new Float32Array(rows.length * width);
    for (const [i, values] of rows.entries()) this.#block.set(values, i * width);
    return true;
  }
}

async function promptOf(model: LabModel, line: string, at: string, number: number): Promise<Prompt> {
  const { data } = Line.safeParse(jsonOf(line));
  if (data === undefined)
    throw new SetupError(`${at} is not {"text": "...", "positions": [...]} or {"ids": [...], "positions": [...]}`);
  const ids = "ids" in data ? data.ids : await encoded(model, data.text, at);
  const { vocabSize } = model.compiled.shape;
  const wrong = Array.from(ids).find((id) => id >= vocabSize);
  if (wrong !== undefined) throw new SetupError(`${at} has token ${wrong}, and the model knows 0 to ${vocabSize - 1}`);
  if (ids.length > model.longestContext)
    throw new SetupError(`${at} has ${ids.length} tokens, and ${model.longestContext} are read at once at most`);
  const outside = data.positions.find((position) => position >= ids.length || position < -ids.length);
  if (outside !== undefined) throw new SetupError(`${at} has no position ${outside}: it has ${ids.length} tokens`);
  return { ids, positions: data.positions, line: number };
}

async function encoded(model: LabModel, text: string, at: string): Promise<number[]> {
  if (model.encoder === null) throw new SetupError(`${at} is a text, and ${model.name} has no tokenizer: give its ids`);
  try {
    return [...textStart(model.compiled), ...(await model.encoder.encode(text, "text"))];
  } catch (error) {
    if (error instanceof InvalidRequest) throw new SetupError(`${at}: ${error.message}`);
    throw error;
  }
}

/** Prompts of one length, in groups that run together; the groups in an order that the seed decides. */
function groupsOf(prompts: readonly Prompt[], seed: number): Prompt[][] {
  const byLength = new Map<number, Prompt[]>();
  for (const index of permutation(prompts.length, seed, 0)) {
    const prompt = prompts[index]!;
    byLength.set(prompt.ids.length, [...(byLength.get(prompt.ids.length) ?? []), prompt]);
  }
  const groups = [...byLength.values()].flatMap((alike) =>
    Array.from({ length: Math.ceil(alike.length / TOGETHER) }, (_, i) => alike.slice(i * TOGETHER, (i + 1) * TOGETHER)),
  );
  return Array.from(permutation(groups.length, seed, 1), (index) => groups[index]!);
}
