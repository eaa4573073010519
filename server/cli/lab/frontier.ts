import * as z from "zod";
import type { FrontierOnlookers } from "../../../lab/frontier/run-frontier.js";
import { command } from "../command.js";
import { integer, list, toggle, value } from "../flag-kinds.js";
import { UsageError } from "../flags.js";
import { createProgress, type Progress } from "../progress.js";
import { labModel, modelChoice } from "./model-options.js";
import { Count, Fraction } from "./train-flags.js";

const INTERRUPTED = 130;

/** Numbers with commas between them, each written in one way. */
const numbers = (one: RegExp, expected: string) =>
  z.string().transform((text, context) => {
    const parts = text.split(",").map((part) => part.trim());
    if (parts.every((part) => one.test(part))) return [...new Set(parts.map(quotient))];
    context.addIssue({ code: "custom", message: `expected ${expected}, with commas between them` });
    return z.NEVER;
  });

/** "1/32" or "0.03". */
function quotient(text: string): number {
  const [above, below = "1"] = text.split("/");
  return Number(above) / Number(below);
}

const Ks = numbers(/^[1-9]\d{0,6}$/, "whole numbers from 1");
const Lambdas = numbers(
  /^(0\.\d*[1-9]\d*|[1-9]\d*(\.\d+)?)(\/[1-9]\d*)?$/,
  "numbers above 0 or fractions such as 1/32",
);

/** At least one. */
const Some = Count.pipe(z.int().min(1));

const FrontierOptions = z.object({
  ...labModel,
  hook: value(z.string().min(1).optional(), "name", "what the SAEs are made for, e.g. blocks.3.hook_resid_post"),
  text: list("path", "file of text (.txt, .jsonl) or folder of such, to train on; every 20th context is to judge by"),
  out: value(
    z.string().min(1).optional(),
    "folder",
    "activations, results and report; a run that was ended goes on there",
  ),
  width: value(integer(2).prefault("1024"), "n", "features of each SAE"),
  k: value(Ks.prefault("8,16,32,64,128,256,512"), "numbers", "k of top-k and of batch-top-k"),
  lambda: value(Lambdas.prefault("1/128,1/64,1/32,1/24,1/16"), "numbers", "lambda of top-AFA"),
  afaTarget: value(
    z.enum(["input", "centred"]).default("centred"),
    "input|centred",
    "the length that top-AFA is drawn to: that of the input, as in the authors' code, or of the input less b_dec",
  ),
  steps: value(Some.prefault("1500"), "n", "training steps of each SAE"),
  batch: value(integer(1).prefault("2048"), "n", "activations of a step"),
  lr: value(Fraction.optional(), "x", "learning rate; default: that of lab train"),
  vectors: value(Some.prefault("1M"), "n", "activations in the file that all are trained on"),
  heldOut: value(Some.prefault("20k"), "n", "held-out activations that all are judged by"),
  seed: value(integer(0, 2 ** 31 - 10).prefault("1"), "n", "the first seed; every setting is trained with it"),
  seeds: value(integer(1, 10).prefault("3"), "n", "seeds that each method's best setting is trained with"),
  json: toggle("the results as one line of JSON"),
});

/** `lab frontier`: error and sparsity of many SAEs that were trained on the same activations. */
export const frontier = command(
  "lab frontier",
  "compares top-AFA, top-k and batch-top-k at many sparsities",
  FrontierOptions,
  async ({ hook, out, k, lambda, lr, seed, seeds, json, ...options }) => {
    if (hook === undefined) throw new UsageError("say --hook <name>, what the SAEs are made for");
    if (out === undefined) throw new UsageError("say --out <folder>, where results and report go");
    if (options.text.length === 0) throw new UsageError("say --text <path>, what the SAEs are trained on");
    const { runFrontier } = await import("../../../lab/frontier/run-frontier.js");
    const { frontierTables } = await import("../../../lab/frontier/frontier-report.js");
    const { width, steps, batch, vectors, heldOut, afaTarget, text } = options;
    const interrupted = new AbortController();
    const interrupt = () => (interrupted.signal.aborted ? process.exit(INTERRUPTED) : interrupted.abort());
    process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
    try {
      const { report, paths } = await runFrontier(
        {
          ...{ model: modelChoice(options), hook, text, out, width, steps, batch, vectors, heldOut, afaTarget },
          ...{ learningRate: lr, seeds: Array.from({ length: seeds }, (_, i) => seed + i) },
          settings: { "top-afa": lambda, topk: k, "batch-topk": k },
        },
        { ...onTerminal(), signal: interrupted.signal },
      );
      process.stdout.write(
        json ? `${JSON.stringify(report.data)}\n` : `${frontierTables(report)}\n\n${paths.join("\n")}\n`,
      );
      return interrupted.signal.aborted ? INTERRUPTED : 0;
    } finally {
      process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
    }
  },
);

/** Shows on stderr what is being done; a training's progress only to people. */
function onTerminal(): FrontierOnlookers {
  const { stderr } = process;
  const [compiling, reading] = [createProgress("compiling", stderr), createProgress("reading the text", stderr)];
  let training: Progress | null = null;
  let began = 0;
  return {
    onNotice: (line) => stderr.write(`${line}\n`),
    onProgress: compiling.show,
    onActivations(share) {
      compiling.stop();
      reading.show(share);
    },
    onRun(title, done, all) {
      reading.stop();
      began = performance.now();
      training = stderr.isTTY ? createProgress(`${done + 1} of ${all}: ${title}`, stderr) : null;
    },
    onStep: (share) => training?.show(share),
    onResult(line) {
      training?.stop();
      stderr.write(`${line}, ${Math.round((performance.now() - began) / 1000)} s\n`);
    },
  };
}
