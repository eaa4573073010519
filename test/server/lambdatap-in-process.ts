import { runCommandLine } from "../../server/cli/command-line.js";
import { capturedOutput, type Ended } from "../captured-output.js";

/** Runs a command of the CLI to its end, in this process. */
export const lambdatapInProcess = (...args: string[]): Promise<Ended> => capturedOutput(() => runCommandLine(args));
