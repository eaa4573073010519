import { type Command, exitCodeOf } from "../../loadtest/command.js";
import { capturedOutput, type Ended } from "../captured-output.js";

/** Runs a command of loadtest to its end, in this process. */
export const runCommand = (name: string, command: Command, args: readonly string[]): Promise<Ended> =>
  capturedOutput(() => exitCodeOf(name, command, args, new AbortController().signal));
