import * as z from "zod";
import type { ProbeTexts } from "../../../lab/probe/labelled-texts.js";
import { command } from "../command.js";
import { integer, number, toggle, value } from "../flag-kinds.js";
import { UsageError } from "../flags.js";
import { createProgress } from "../progress.js";
import { labModel, modelChoice } from "./model-options.js";
import { labSaes, saesChoice } from "./sae-options.js";

/** "1,2,5": numbers of features. */
const Ks = z
  .string()
  .regex(/^[1-9]\d{0,6}(,[1-9]\d{0,6})*$/, "expected whole numbers from 1, with commas between them")
  .transform((text) => [...new Set(text.split(",").map(Number))].sort((a, b) => a - b));

const file = (help: string) => value(z.string().min(1).optional(), "file.jsonl", help);

const ProbeOptions = z.object({
  ...labModel,
  ...labSaes,
  train: file('texts to fit probes on, a line of {"text", "label"} each'),
  test: file("texts to judge them by, of the same form"),
  data: file("texts to take both from, in place of --train and --test"),
  testShare: value(
    number.pipe(z.number().gt(0).lt(1)).optional(),
    "share",
    "share of --data to judge by; default: 0.2",
  ),
  seed: value(integer(0, 2 ** 31 - 1).optional(), "n", "draws the texts of --data to judge by; default: 1"),
  k: value(Ks.prefault("1,2,5"), "numbers", "how many features a probe reads"),
  json: toggle("the results as one line of JSON"),
});
type ProbeOptions = z.output<typeof ProbeOptions>;

/** `lab probe`: what a few features of SAEs tell about texts. */
export const probe = command(
  "lab probe",
  "classifies texts by a few features of SAEs",
  ProbeOptions,
  async (options) => {
    const texts = await textsOf(options);
    const { runProbes } = await import("../../../lab/probe/run-probes.js");
    const { probeJson, probeTable } = await import("../../../lab/probe/probe-report.js");
    const bar = (job: string) => createProgress(job, process.stderr);
    const [compiling, reading] = [bar("compiling"), bar("probing")];
    const results = await runProbes(
      { model: modelChoice(options), saes: saesChoice(options), texts, ks: options.k },
      {
        onProgress: compiling.show,
        onNotice: (line) => process.stderr.write(`${line}\n`),
        onShare(share) {
          compiling.stop();
          reading.show(share);
        },
      },
    ).finally(() => {
      compiling.stop();
      reading.stop();
    });
    process.stdout.write(`${options.json ? probeJson(results) : probeTable(results)}\n`);
    return 0;
  },
);

async function textsOf({ train, test, data, testShare, seed }: ProbeOptions): Promise<ProbeTexts> {
  const { readLabelledTexts, splitTexts } = await import("../../../lab/probe/labelled-texts.js");
  if (data !== undefined && train === undefined && test === undefined)
    return splitTexts(readLabelledTexts(data), testShare ?? 0.2, seed ?? 1);
  if (data === undefined && (testShare ?? seed) !== undefined)
    throw new UsageError("--test-share and --seed go with --data");
  if (data === undefined && train !== undefined && test !== undefined)
    return { train: readLabelledTexts(train), test: readLabelledTexts(test) };
  throw new UsageError("say --train <file> and --test <file>, or --data <file>");
}
