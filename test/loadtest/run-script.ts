import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

/** Far more than any run here takes. */
const LIMIT_MS = 50_000;

export interface Ended {
  /** null where it had to be killed. */
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a command of loadtest, as it is shipped, to its end. */
export async function runScript(
  script: string,
  args: readonly string[],
  started?: (child: ChildProcess) => void,
): Promise<Ended> {
  const child = spawn(process.execPath, [script, ...args], { timeout: LIMIT_MS, killSignal: "SIGKILL" });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  started?.(child);
  await once(child, "close");
  return { code: child.exitCode, out, err };
}
