import type * as z from "zod";
import { helpText, readOptions, UsageError } from "./flags.js";

/** A usage that names an argument: `trace "<prompt>"`, `cache ls|prune`. */
const TAKES_ARGUMENT = /[<|]/;

export interface Command {
  readonly usage: string;
  readonly about: string;
  help(): string;
  /** Resolves to the exit code. */
  run(args: readonly string[]): Promise<number>;
}

/** `run` imports what it needs itself, so that --help loads neither ONNX Runtime nor a server. */
export function command<S extends z.ZodObject>(
  usage: string,
  about: string,
  schema: S,
  run: (options: z.output<S>, argument: string | undefined) => Promise<number>,
): Command {
  return {
    usage,
    about,
    help: () => helpText(schema),
    run(args) {
      const { options, positionals } = readOptions(schema, args, process.env);
      const [argument, ...rest] = positionals;
      const surplus = TAKES_ARGUMENT.test(usage) ? rest[0] : argument;
      if (surplus !== undefined) throw new UsageError(`'${surplus}' is one argument too many`);
      return run(options, argument);
    },
  };
}
