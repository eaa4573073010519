import * as z from "zod";
import type { TrainOptions } from "../../../lab/train/train-options.js";
import { integer, list, number, toggle, value } from "../flag-kinds.js";
import { UsageError } from "../flags.js";
import { labModel, modelChoice } from "./model-options.js";

const UNITS: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9 };

/** "10M", "500k", "2048". */
export const Count = z
  .string()
  .regex(/^\d+(\.\d+)?[kMG]?$/, "expected a number, with k, M or G behind it")
  .transform((text) => {
    const product = Number.parseFloat(text) * (UNITS[text.replace(/[\d.]+/, "")] ?? 1);
    return Number(product.toPrecision(15)); // 4.1 * 1e6 is 4099999.9999999995
  })
  .pipe(z.int().min(0));

/** "1/32", "0.03", "6e-4". */
export const Fraction = z
  .string()
  .regex(/^\d+(\.\d+)?(e[+-]?\d+)?(\/\d+(\.\d+)?)?$/i, "expected a number or a fraction")
  .transform((text) => {
    const [above = 0, below = 1] = text.split("/").map(Number);
    return above / below;
  })
  .pipe(z.number().min(0));

/** "64,256": widths of the levels of a Matryoshka SAE. */
const Widths = z
  .string()
  .regex(/^[1-9]\d*(,[1-9]\d*)*$/, "expected whole numbers with commas between them")
  .transform((text) => text.split(",").map(Number));

const ACTIVATIONS = ["top-afa", "topk", "batch-topk", "jumprelu"] as const;
const share = number.pipe(z.number().min(0).max(1));

export const TrainFlags = z.object({
  ...labModel,
  hook: value(
    z.string().min(1).optional(),
    "name",
    "what is read, as TransformerLens names it: blocks.3.hook_resid_post",
  ),
  head: value(integer(0).optional(), "n", "of hook_q, hook_k, hook_v or hook_z one head; default: all of them"),
  text: list("path", "what the model reads: a .txt or .jsonl file, or a folder of these"),
  prompts: value(
    z.string().min(1).optional(),
    "file.jsonl",
    'in place of --text, a line of {"text" or "ids", "positions"} for each prompt',
  ),
  tokens: value(Count.prefault("10M"), "n", "tokens to train on"),
  passes: value(integer(1).prefault("1"), "n", "how often the text is read where it is shorter"),
  width: value(integer(1).prefault("1024"), "n", "features"),
  activation: value(z.enum(ACTIVATIONS).default("top-afa"), ACTIVATIONS.join("|"), "how features are chosen"),
  k: value(integer(1).optional(), "n", "features kept of a token, with topk and batch-topk; default: 32"),
  widths: value(
    Widths.optional(),
    "numbers",
    "Matryoshka levels, with batch-topk: the first so many features are to reconstruct the input by themselves, too",
  ),
  lambda: value(Fraction.optional(), "x", "coefficient of the loss of lengths, with top-afa; default: 1/32"),
  afaTarget: value(
    z.enum(["input", "centred"]).optional(),
    "input|centred",
    "what the lengths of top-afa are held against: the input, as its authors do, or the input less b_dec; default: centred",
  ),
  l0Coefficient: value(Fraction.optional(), "x", "coefficient of the l0 loss, with jumprelu; default: 1"),
  bandwidth: value(Fraction.optional(), "x", "width of the kernel of thresholds, with jumprelu; default: 0.05"),
  normalize: value(
    z.enum(["layer_norm", "none"]).default("layer_norm"),
    "layer_norm|none",
    "what is done to the input",
  ),
  context: value(integer(3).optional(), "n", "tokens that are read at once; default: the trained length, at most 256"),
  skipStart: value(integer(0).optional(), "n", "tokens left out at the start of each context; default: 10"),
  buffer: value(Count.optional(), "n", "rows that are mixed on the disk; default: 262144"),
  batch: value(integer(1).optional(), "n", "rows of a step; default: 2048"),
  lr: value(Fraction.optional(), "x", "learning rate; default: 6e-4"),
  warmUp: value(integer(0).optional(), "n", "steps in which the learning rate rises; default: 50"),
  decay: value(share.optional(), "share", "of the steps in which it falls, at the end; default: 0.3"),
  deadAfter: value(
    integer(1).optional(),
    "n",
    "batches without an activation after which a feature is dead; default: 20",
  ),
  deadPenalty: value(Fraction.optional(), "x", "coefficient of the loss of dead features; default: 1/32"),
  seed: value(integer(0, 2 ** 31 - 1).prefault("1"), "n", "same seed, same SAE"),
  featureTokens: value(Count.optional(), "n", "held-out tokens that features.jsonl is made of; 0: none; default: 1M"),
  dtype: value(z.enum(["f32", "f16"]).default("f32"), "f32|f16", "what the SAE is stored in"),
  out: value(z.string().min(1).optional(), "folder", "where the SAE goes; it must be empty or not there"),
  resume: toggle("go on with the unfinished run in --out"),
  json: toggle("a line of JSON for every tenth step, and one at the end"),
});
export type TrainFlags = z.output<typeof TrainFlags>;

/** @throws UsageError where a flag is missing, or belongs to another activation */
export function trainOptions(flags: TrainFlags): TrainOptions {
  const { hook, out, prompts, text } = flags;
  if (hook === undefined) throw new UsageError("--hook says what is read, such as blocks.3.hook_resid_post");
  if (out === undefined) throw new UsageError("--out says which folder the SAE goes to");
  if ((prompts === undefined) === (text.length === 0))
    throw new UsageError("say what the model reads: --text <file or folder>, or --prompts <file>");
  const ofText = OF_TEXT.find((name) => prompts !== undefined && flags[name] !== undefined);
  if (ofText !== undefined) throw new UsageError(`${flagOf(ofText)} means nothing to --prompts`);
  return {
    ...{ model: modelChoice(flags), hook, head: flags.head, text, prompts, out, resume: flags.resume },
    ...{ tokens: flags.tokens, passes: flags.passes, width: flags.width, context: flags.context },
    ...{ skipStart: flags.skipStart, buffer: flags.buffer, batch: flags.batch, seed: flags.seed },
    ...{ activation: activationOf(flags), normalisation: flags.normalize, storedAs: flags.dtype },
    ...{ learningRate: flags.lr, warmUp: flags.warmUp, decay: flags.decay, featureTokens: flags.featureTokens },
    dead: {
      ...(flags.deadAfter === undefined ? {} : { after: flags.deadAfter }),
      ...(flags.deadPenalty === undefined ? {} : { penalty: flags.deadPenalty }),
    },
  };
}

/** Flags that one activation has and others do not. */
const OWN: Readonly<Record<(typeof ACTIVATIONS)[number], readonly (keyof TrainFlags)[]>> = {
  "top-afa": ["lambda", "afaTarget", "deadPenalty"],
  topk: ["k", "deadPenalty"],
  "batch-topk": ["k", "widths", "deadPenalty"],
  jumprelu: ["l0Coefficient", "bandwidth"],
};

/** Flags of contexts, which are cut of a text, and of what is held out of it. */
const OF_TEXT = ["context", "skipStart", "featureTokens"] as const satisfies readonly (keyof TrainFlags)[];

const flagOf = (name: string): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

function activationOf(flags: TrainFlags): TrainOptions["activation"] {
  const { activation: kind } = flags;
  const foreign = Object.values(OWN)
    .flat()
    .find((name) => flags[name] !== undefined && !OWN[kind].includes(name));
  if (foreign !== undefined) throw new UsageError(`${flagOf(foreign)} means nothing to ${kind}`);
  switch (kind) {
    case "top-afa":
      return { kind, lambda: flags.lambda ?? 1 / 32, target: flags.afaTarget ?? "centred" };
    case "jumprelu":
      return { kind, l0Coefficient: flags.l0Coefficient ?? 1, bandwidth: flags.bandwidth ?? 0.05 };
    case "batch-topk":
      return { kind, k: flags.k ?? 32, ...(flags.widths === undefined ? {} : { widths: flags.widths }) };
    case "topk":
      return { kind, k: flags.k ?? 32 };
  }
}
