import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { Outcome } from "../../../loadtest/passkey/try-key.js";

const SCRIPT = fileURLToPath(new URL("../../../loadtest/passkey.js", import.meta.url));
/** Far more than any run here takes. */
const LIMIT_MS = 50_000;

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the command to its end; `code` is null where it had to be killed. */
export async function passkey(args: readonly string[], started?: (child: ChildProcess) => void): Promise<Ended> {
  const child = spawn(process.execPath, [SCRIPT, ...args], { timeout: LIMIT_MS, killSignal: "SIGKILL" });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (piece: string) => {
    out += piece;
  });
  child.stderr.setEncoding("utf8").on("data", (piece: string) => {
    err += piece;
  });
  const closed = once(child, "close");
  started?.(child);
  await closed;
  return { code: child.exitCode, out, err };
}

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
