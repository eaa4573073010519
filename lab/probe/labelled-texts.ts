import { readFileSync } from "node:fs";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import * as z from "zod";
import { SetupError } from "../../runtime/contract/errors.js";

/** More different labels than this are numbers or names rather than classes. */
const MOST_LABELS = 100;

const Line = z
  .object({
    text: z.string().optional(),
    label: z
      .union([z.number(), z.string(), z.boolean()], { error: "expected a text, a number, true or false" })
      .transform(String),
    ids: z.array(z.int().min(0)).min(1).optional(),
  })
  .refine(({ text, ids }) => ids !== undefined || (text !== undefined && text.trim() !== ""), {
    error: "the text is empty",
  });

/** A text and the class it belongs to. */
export interface LabelledText {
  readonly label: string;
  /** With `ids`, these are what is run. */
  readonly text: string;
  readonly ids: readonly number[] | null;
  /** The file and line that it comes from. */
  readonly place: string;
}

/**
 * Reads lines of {"text", "label"}; a line may bring the token ids of its text as "ids", the first of them BOS. Empty lines are
 * passed over.
 * @throws SetupError that names the file, and the line
 */
export function readLabelledTexts(path: string): LabelledText[] {
  const texts = linesOf(path).flatMap((line, i) =>
    line.trim() === "" ? [] : [readLine(line, `${path}, line ${i + 1}`)],
  );
  if (texts.length === 0) throw new SetupError(`${path} holds no text`);
  return texts;
}

function linesOf(path: string): string[] {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path)).split("\n");
  } catch (error) {
    if (error instanceof TypeError) throw new SetupError(`${path} is not UTF-8`);
    const reason =
      error instanceof Error && "code" in error && error.code === "ENOENT" ? "there is no such file" : error;
    throw new SetupError(`${path} cannot be read: ${reason instanceof Error ? reason.message : reason}`);
  }
}

function readLine(line: string, place: string): LabelledText {
  const { success, data, error } = Line.safeParse(parsed(line, place));
  if (success) return { label: data.label, text: data.text ?? "", ids: data.ids ?? null, place };
  const [issue] = error.issues;
  const field = issue?.path.join(".");
  throw new SetupError(`${place}: ${field ? `${field}: ` : ""}${issue?.message.replace(/^Invalid input: /, "")}`);
}

function parsed(line: string, place: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw new SetupError(`${place} is not JSON; expected {"text": ..., "label": ...}`);
  }
}

/** Texts to fit probes on, and texts to judge them by. */
export interface ProbeTexts {
  readonly train: readonly LabelledText[];
  readonly test: readonly LabelledText[];
}

/**
 * Takes a share of the texts for judging, drawn by a seed.
 * @throws SetupError where nothing would be left on one side
 */
export function splitTexts(texts: readonly LabelledText[], testShare: number, seed: number): ProbeTexts {
  const drawn = [...texts];
  const random = xoroshiro128plus(seed);
  for (let last = drawn.length - 1; last > 0; last--) {
    const other = uniformInt(random, 0, last);
    [drawn[last], drawn[other]] = [drawn[other]!, drawn[last]!];
  }
  const held = Math.round(texts.length * testShare);
  if (held === 0 || held === texts.length)
    throw new SetupError(
      `a share of ${testShare} of ${texts.length} texts leaves none to ${held === 0 ? "test" : "train"} with`,
    );
  return { train: drawn.slice(held), test: drawn.slice(0, held) };
}

/**
 * The labels that probes are fitted for: of two the larger, of more each against the rest. Numbers are in the order of numbers.
 * @throws SetupError where there is only one, or too many, or one that only the tests have
 */
export function probedLabels({ train, test }: ProbeTexts): string[] {
  const labels = [...new Set(train.map(({ label }) => label))].sort(inOrder);
  const [only] = labels;
  if (labels.length === 1) throw new SetupError(`all texts to train with have the label ${only}; a probe needs two`);
  if (labels.length > MOST_LABELS)
    throw new SetupError(`there are ${labels.length} different labels; probes tell at most ${MOST_LABELS} apart`);
  const stranger = test.find(({ label }) => !labels.includes(label));
  if (stranger !== undefined)
    throw new SetupError(`${stranger.place}: no text to train with has the label ${stranger.label}`);
  return labels.length === 2 ? labels.slice(1) : labels;
}

function inOrder(a: string, b: string): number {
  const difference = Number(a) - Number(b);
  if (!Number.isNaN(difference) && difference !== 0) return difference;
  return a < b ? -1 : a > b ? 1 : 0;
}
