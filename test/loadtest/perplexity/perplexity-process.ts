import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";

const PERPLEXITY = fileURLToPath(new URL("../../../loadtest/perplexity.js", import.meta.url));
/** Far more than any of these runs takes: one that hangs is killed, and its code is null. */
const LIMIT_MS = 50_000;

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

export interface Measured {
  /** null where it had to be killed. */
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
  /** perplexity.json; null where none was written. */
  readonly report: PerplexityJson | null;
}

/** Runs `npm run perplexity` as it is shipped, with `folder` as --out. @param onStart gets a way to interrupt it */
export async function perplexity(
  folder: string,
  args: readonly string[],
  onStart?: (interrupt: () => void) => void,
): Promise<Measured> {
  const child = spawn(process.execPath, [PERPLEXITY, "--out", folder, ...args], {
    timeout: LIMIT_MS,
    killSignal: "SIGKILL",
  });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  onStart?.(() => child.kill("SIGINT"));
  await once(child, "close");
  const path = join(folder, "perplexity.json");
  const report = existsSync(path) ? PerplexityJson.parse(JSON.parse(readFileSync(path, "utf8"))) : null;
  return { code: child.exitCode, out, err, report };
}
