import { join } from "node:path";
import { parseArgs } from "node:util";
import { z } from "zod";
import { checkFlags } from "../../loadtest/check-flags.js";
import { parseDevice } from "../../runtime/contract/device-choice.js";

/** What the command line asks for. */
const Options = z.object({
  only: z
    .string()
    .transform((names) => names.split(","))
    .optional(),
  quick: z.boolean(),
  tiny: z.boolean(),
  keep: z.boolean(),
  device: z.string().transform((text, context) => {
    const choice = parseDevice(text);
    if (choice?.kind === "cuda") return choice;
    context.addIssue({ code: "custom", message: `must be cuda or cuda:n, not '${text}'` });
    return z.NEVER;
  }),
  "ort-library": z.string().optional(),
  seconds: z.coerce.number("must be a number").positive("must be above 0").optional(),
  out: z.string(),
});

export type Options = z.output<typeof Options>;

export const USAGE = `npm run verify:cuda -- [flags]: measures on a GPU what CUDA is held to, and writes a report
  --only a,b           these sections alone
  --quick              fewer cases and steps: two minutes on an H100
  --seconds n          sections and cases that would begin later are not run
  --device cuda[:n]    which GPU
  --ort-library path   an ONNX Runtime with the CUDA provider, or the folder that holds it
  --out folder         of the report (reports/cuda)
  --keep               keep the files with random weights for the next run
  --tiny               shapes of a few layers, whose figures mean nothing: to try the command`;

/** null: help was asked for. @throws Error: a sentence that names the flag that is wrong. */
export function readOptions(args: readonly string[]): Options | null {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: "boolean", default: false },
      only: { type: "string" },
      quick: { type: "boolean", default: false },
      tiny: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
      device: { type: "string", default: "cuda" },
      "ort-library": { type: "string" },
      seconds: { type: "string" },
      out: { type: "string", default: join("reports", "cuda") },
    },
  });
  return values.help ? null : checkFlags(Options, values);
}
