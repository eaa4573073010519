import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Ended } from "../captured-output.js";

/** Far more than any run here takes. */
const LIMIT_MS = 50_000;

/** Runs a script in a process of its own to its end. @param started gets a way to interrupt it */
export async function runScript(
  script: string,
  args: readonly string[],
  started?: (interrupt: () => void) => void,
): Promise<Ended> {
  const child = spawn(process.execPath, [script, ...args], { timeout: LIMIT_MS, killSignal: "SIGKILL" });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  started?.(() => child.kill("SIGINT"));
  await once(child, "close");
  return { code: child.exitCode, out, err };
}
