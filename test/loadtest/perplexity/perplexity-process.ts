import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { type Ended, runScript } from "../run-script.js";

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

/** Runs `npm run perplexity` as it is shipped, with `folder` as --out. @param onStart gets a way to interrupt it */
export async function perplexity(
  folder: string,
  args: readonly string[],
  onStart?: (interrupt: () => void) => void,
): Promise<Measured> {
  const interruptible = (child: ChildProcess) => onStart?.(() => child.kill("SIGINT"));
  const ended = await runScript(PERPLEXITY, ["--out", folder, ...args], interruptible);
  const path = join(folder, "perplexity.json");
  const report = existsSync(path) ? PerplexityJson.parse(JSON.parse(readFileSync(path, "utf8"))) : null;
  return { ...ended, report };
}
