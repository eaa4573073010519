import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { perplexity as command } from "../../../loadtest/perplexity/perplexity-command.js";
import type { Ended } from "../../captured-output.js";
import { runCommand } from "../run-command.js";
import { runScript } from "../run-script.js";

const PERPLEXITY = fileURLToPath(new URL("../../../loadtest/perplexity.js", import.meta.url));

const PassFigure = z.strictObject({ tokens: z.int(), nll: z.number() }).nullable();
const FreshFigure = z
  .strictObject({
    samples: z.int(),
    nll: z.number(),
    sampledNll: z.number(),
    lambdaAbove: z.number().nullable(),
    standardError: z.number().nullable(),
  })
  .nullable();
const Row = z.strictObject({
  from: z.int(),
  to: z.int(),
  withinWindow: z.boolean(),
  lambda: PassFigure,
  full: PassFigure,
  reEncoded: FreshFigure,
  truncation: FreshFigure,
});
const PerplexityJson = z.looseObject({
  command: z.literal("perplexity"),
  tokens: z.int(),
  documents: z.array(z.strictObject({ name: z.string(), start: z.int() })),
  buckets: z.array(Row),
  goal: z.strictObject({ met: z.boolean().nullable(), sentence: z.string() }),
  failures: z.object({
    total: z.int(),
    kinds: z.array(z.object({ kind: z.string(), count: z.int(), example: z.string() })),
  }),
  interrupted: z.boolean(),
});
export type PerplexityJson = z.output<typeof PerplexityJson>;

export interface Measured extends Ended {
  /** perplexity.json; null where none was written. */
  readonly report: PerplexityJson | null;
}

/** Runs the command in this process, with `folder` as --out. */
export const perplexity = (folder: string, args: readonly string[]): Promise<Measured> =>
  measured((all) => runCommand("perplexity", command, all), folder, args);

/** Runs `npm run perplexity` as it is shipped, with `folder` as --out. @param onStart gets a way to interrupt it */
export const perplexityAsShipped = (
  folder: string,
  args: readonly string[],
  onStart?: (interrupt: () => void) => void,
): Promise<Measured> => measured((all) => runScript(PERPLEXITY, all, onStart), folder, args);

async function measured(
  run: (args: readonly string[]) => Promise<Ended>,
  folder: string,
  args: readonly string[],
): Promise<Measured> {
  const ended = await run(["--out", folder, ...args]);
  const path = join(folder, "perplexity.json");
  const report = existsSync(path) ? PerplexityJson.parse(JSON.parse(readFileSync(path, "utf8"))) : null;
  return { ...ended, report };
}
