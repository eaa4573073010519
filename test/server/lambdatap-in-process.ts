import { runCommandLine } from "../../server/cli/command-line.js";
import { capturedOutput, type Ended } from "../captured-output.js";

/** Runs a command of the CLI to its end in this process, with `env` added to its environment. */
export async function lambdatapInProcess(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const before = Object.keys(env).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, env);
  try {
    return await capturedOutput(() => runCommandLine(args));
  } finally {
    for (const [name, value] of before)
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  }
}
