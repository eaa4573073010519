import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Ended } from "../captured-output.js";
import { until } from "./with-server.js";

const MAIN = fileURLToPath(new URL("../../server/cli/main.js", import.meta.url));
/** Far more than any start takes; a command that hangs fails its test with what it has said. */
const LIMIT_MS = 120_000;

interface Running {
  readonly child: ChildProcess;
  readonly out: () => string;
  readonly err: () => string;
}

function start(args: readonly string[], cacheRoot: string): Running {
  const env = { ...process.env, LAMBDATAP_CACHE: cacheRoot };
  const child = spawn(process.execPath, [MAIN, ...args], { env, timeout: LIMIT_MS, killSignal: "SIGKILL" });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  return { child, out: () => out, err: () => err };
}

/** Runs a command of the shipped CLI to its end; `code` is null where it had to be killed. */
export async function lambdatap(args: readonly string[], cacheRoot: string): Promise<Ended> {
  const { child, out, err } = start(args, cacheRoot);
  await once(child, "close");
  return { code: child.exitCode, out: out(), err: err() };
}

/** Runs `use` against `lambdatap serve` on a free port; ends it with SIGTERM and returns its exit code. */
export async function whileServing(
  args: readonly string[],
  cacheRoot: string,
  use: (url: string) => Promise<void>,
): Promise<number | null> {
  const { child, out, err } = start(["serve", "--port", "0", ...args], cacheRoot);
  const ended = once(child, "close");
  try {
    await until(() => out().includes("curl ") || child.exitCode !== null, LIMIT_MS);
    const url = /http:\/\/[^\s/]+/.exec(out())?.[0];
    if (url === undefined) throw new Error(`it does not serve: ${err()}`);
    await use(url);
    child.kill("SIGTERM");
    await ended;
    return child.exitCode;
  } finally {
    child.kill("SIGKILL");
  }
}
