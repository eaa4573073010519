import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { passkey as command } from "../../../loadtest/passkey/passkey-command.js";
import { Outcome } from "../../../loadtest/passkey/try-key.js";
import type { Ended } from "../../captured-output.js";
import { runCommand } from "../run-command.js";
import { runScript } from "../run-script.js";

const SCRIPT = fileURLToPath(new URL("../../../loadtest/passkey.js", import.meta.url));

/** Runs the command in this process. */
export const passkey = (args: readonly string[]): Promise<Ended> => runCommand("passkey", command, args);

/** Runs `npm run passkey` as it is shipped. @param onStart gets a way to interrupt it */
export const passkeyAsShipped = (args: readonly string[], onStart?: (interrupt: () => void) => void): Promise<Ended> =>
  runScript(SCRIPT, args, onStart);

const Share = z.object({ hits: z.int(), trials: z.int() }).loose();
const ReportData = z.object({
  model: z.string(),
  settings: z.object({ answer: z.int(), tokens: z.object({ bare: z.int(), filler: z.number() }).loose() }).loose(),
  summary: z.array(z.object({ mode: z.string(), within: Share, beyond: Share })),
  failures: z.object({ total: z.int(), kinds: z.array(z.object({ kind: z.string(), count: z.int() })) }),
  missing: z.int(),
  outcomes: z.array(Outcome),
});

/** The report that a run left in a folder, for programs and for people. */
export function reportIn(folder: string): z.output<typeof ReportData> & { readonly markdown: string } {
  const read = (name: string) => readFileSync(join(folder, name), "utf8");
  return { ...ReportData.parse(JSON.parse(read("passkey.json"))), markdown: read("passkey.md") };
}

/** Lines of a folder's journal, its head left out. */
export function journalIn(folder: string): string[] {
  const path = join(folder, "passkey.jsonl");
  return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n").slice(1) : [];
}
