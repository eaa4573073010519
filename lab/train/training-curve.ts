import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { z } from "zod";
import { SetupError } from "../../runtime/contract/errors.js";
import type { StepResult } from "../step/training-step.js";
import { writeFile } from "./write-file.js";

/** Steps between two lines. */
const EVERY = 10;

const CurveLine = z.object({
  step: z.int(),
  tokens: z.int(),
  /** Losses of the batch of this step; `mse` is of the normalised input, `unexplained` its share of the variance. */
  mse: z.number(),
  /** JSON has null for the share of a batch without variance, whose rows are equal. */
  unexplained: z
    .number()
    .nullable()
    .transform((share) => share ?? Number.POSITIVE_INFINITY),
  inner: z.number(),
  afa: z.number(),
  aux: z.number(),
  l0_loss: z.number(),
  /** Mean number of kept features, and number of dead ones. */
  l0: z.number(),
  dead: z.int(),
});
export type CurveLine = z.infer<typeof CurveLine>;

/** The losses of every tenth step, a line of JSON each. No times are in it: a run that went on gives the same bytes. */
export class TrainingCurve {
  readonly lines: CurveLine[];

  /** @param step lines of later steps are dropped: the run goes on from there */
  constructor(
    readonly path: string,
    step: number,
  ) {
    this.lines = step === 0 || !existsSync(path) ? [] : readLines(path).filter((line) => line.step <= step);
    writeFile(path, this.lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  }

  add(step: number, tokens: number, result: StepResult): void {
    if (step % EVERY !== 0) return;
    const { mse, unexplained, inner, afa, aux, l0Loss, l0, dead } = result;
    const line = { step, tokens, mse, unexplained, inner, afa, aux, l0_loss: l0Loss, l0, dead };
    this.lines.push(line);
    try {
      appendFileSync(this.path, `${JSON.stringify(line)}\n`);
    } catch (error) {
      throw new SetupError(`${this.path} cannot be written: ${error instanceof Error ? error.message : error}`);
    }
  }
}

/** A last line that was cut off is dropped. @throws SetupError naming another that is none */
function readLines(path: string): CurveLine[] {
  const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
  return lines.map((line, i) => {
    const read = CurveLine.safeParse(jsonOf(line));
    if (!read.success) throw new SetupError(`${path} is damaged (line ${i + 1}): the run cannot go on`);
    return read.data;
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
