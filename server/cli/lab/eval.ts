import * as z from "zod";
import { command } from "../command.js";
import { integer, list, toggle, value } from "../flag-kinds.js";
import { UsageError } from "../flags.js";
import { createProgress } from "../progress.js";
import { labModel, modelChoice } from "./model-options.js";
import { labSaes, saesChoice } from "./sae-options.js";
import { Count } from "./train-flags.js";

const EvalFlags = z.object({
  ...labModel,
  ...labSaes,
  text: list("path", "what SAEs are judged on: a .txt or .jsonl file, or a folder of these"),
  tokens: value(Count.pipe(z.int().min(1)).prefault("100k"), "n", "tokens that are counted at least"),
  context: value(
    integer(3).optional(),
    "n",
    "tokens that are read at once; default: 128, with --held-out as many as lab train reads",
  ),
  skipStart: value(
    integer(0).prefault("10"),
    "n",
    "tokens at the start of each context that are neither spliced nor counted; 1: the first alone (BOS)",
  ),
  heldOut: toggle("only the contexts that lab train leaves out, every 20th of the same --context"),
  allLayers: toggle("splice all SAEs in one pass, too"),
  features: toggle("write features.jsonl beside each SAE: what its features are active on"),
  featureTokens: value(
    Count.pipe(z.int().min(1)).optional(),
    "n",
    "tokens that features.jsonl is made of, with --features; default: 1M",
  ),
  json: toggle("a line for each SAE in the schema of SAEBench's core evaluation"),
  out: value(z.string().min(1).optional(), "folder", "where the report, pictures and files in SAEBench's schema go"),
});

const FEATURE_TOKENS = 1_000_000;

/** `lab eval`: how good SAEs are. */
export const evaluation = command("lab eval", "judges sparse autoencoders on a text", EvalFlags, async (flags) => {
  if (flags.text.length === 0) throw new UsageError("say what SAEs are judged on: --text <file or folder>");
  if (flags.featureTokens !== undefined && !flags.features)
    throw new UsageError("--feature-tokens goes with --features");
  const { runEvaluation } = await import("../../../lab/eval/run-evaluation.js");
  const { evaluationText, evaluationLines } = await import("../../../lab/eval/evaluation-output.js");
  const { text, tokens, context, skipStart, allLayers, out } = flags;
  const bar = (job: string) => createProgress(job, process.stderr);
  const [compiling, judging, describing] = [bar("compiling"), bar("judging"), bar("describing features")];
  const now = Date.now();
  const finished = await runEvaluation(
    {
      ...{ text, tokens, context, skipStart, allLayers, out },
      model: modelChoice(flags),
      saes: saesChoice(flags),
      part: flags.heldOut ? "held-out" : "all",
      ...(flags.features ? { featureTokens: flags.featureTokens ?? FEATURE_TOKENS } : {}),
    },
    {
      onProgress: compiling.show,
      onNotice: (line) => process.stderr.write(`${line}\n`),
      onShare: judging.show,
      onFeatures(share) {
        judging.stop();
        describing.show(share);
      },
    },
    now,
  ).finally(() => {
    for (const each of [compiling, judging, describing]) each.stop();
  });
  process.stdout.write(flags.json ? evaluationLines(finished, now) : evaluationText(finished));
  for (const path of finished.written) process.stderr.write(`${path}\n`);
  return 0;
});
