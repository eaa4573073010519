import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { load as command } from "../../../loadtest/load/load-command.js";
import type { Ended } from "../../captured-output.js";
import { temporaryFolder } from "../../models/weights/write-safetensors.js";
import { runCommand } from "../run-command.js";
import { runScript } from "../run-script.js";

const LOAD = fileURLToPath(new URL("../../../loadtest/load.js", import.meta.url));

const Percentiles = z.object({ p50: z.number().positive(), p95: z.number(), p99: z.number() }).nullable();
const Figures = z.object({
  scenario: z.string(),
  target: z.string(),
  rounds: z.int(),
  seconds: z.number(),
  answers: z.int(),
  answersPerSecond: z.number(),
  tokensPerSecond: z.number(),
  promptTokens: z.number().nullable(),
  latency: Percentiles,
  firstToken: Percentiles,
  betweenTokens: Percentiles,
  refusals: z.int(),
  failures: z.object({
    total: z.int(),
    kinds: z.array(z.object({ kind: z.string(), count: z.int(), example: z.string() })),
  }),
  memory: z.object({ start: z.int(), peak: z.int(), end: z.int() }).nullable(),
  endedBy: z.array(z.string()),
});
const LoadJson = z.object({
  command: z.literal("load"),
  interrupted: z.boolean(),
  figures: z.array(Figures),
  comparisons: z.array(z.looseObject({ scenario: z.string(), pairs: z.int(), tokensPerSecond: z.number().nullable() })),
  skipped: z.array(z.object({ scenario: z.string(), target: z.string(), why: z.string() })),
});
export type LoadJson = z.output<typeof LoadJson>;

export interface Loaded extends Ended {
  /** load.json; null where none was written. */
  readonly report: LoadJson | null;
  readonly folder: string;
}

/** Runs the command in this process. */
export const load = (args: readonly string[]): Promise<Loaded> =>
  loaded((all) => runCommand("load", command, all), args);

/** Runs `npm run load` as it is shipped. @param onStart gets a way to interrupt it */
export const loadAsShipped = (args: readonly string[], onStart?: (interrupt: () => void) => void): Promise<Loaded> =>
  loaded((all) => runScript(LOAD, all, onStart), args);

async function loaded(run: (args: readonly string[]) => Promise<Ended>, args: readonly string[]): Promise<Loaded> {
  const folder = join(temporaryFolder(), "load");
  const ended = await run(["--out", folder, ...args]);
  const path = join(folder, "load.json");
  const report = existsSync(path) ? LoadJson.parse(JSON.parse(readFileSync(path, "utf8"))) : null;
  return { ...ended, report, folder };
}
