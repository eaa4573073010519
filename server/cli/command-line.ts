import type * as z from "zod";
import { packageVersion } from "../../models/package-root.js";
import { sentenceOf } from "./failure.js";
import { helpText, readOptions, UsageError } from "./flags.js";
import {
  CacheOptions,
  CompileOptions,
  DoctorOptions,
  GenerateOptions,
  ModelsOptions,
  PullOptions,
  ServeOptions,
  TraceOptions,
} from "./options.js";

interface Command {
  readonly usage: string;
  readonly about: string;
  help(): string;
  /** Resolves to the exit code. */
  run(args: readonly string[]): Promise<number>;
}

/** `run` imports what it needs itself, so that --help loads neither ONNX Runtime nor a server. */
function command<S extends z.ZodObject>(
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
      const surplus = usage.includes(" ") ? rest[0] : argument;
      if (surplus !== undefined) throw new UsageError(`'${surplus}' is one argument too many`);
      return run(options, argument);
    },
  };
}

const COMMANDS: Readonly<Record<string, Command>> = {
  serve: command("serve", "serves models over OpenAI's completion protocol", ServeOptions, async (options) =>
    (await import("./serve.js")).serve(options),
  ),
  generate: command('generate "<prompt>"', "writes on from a prompt", GenerateOptions, async (options, prompt) =>
    (await import("./generate.js")).generate(prompt ?? "", options),
  ),
  trace: command('trace "<prompt>"', "shows the features behind each token", TraceOptions, async (options, prompt) =>
    (await import("./trace.js")).trace(prompt ?? "", options),
  ),
  compile: command("compile <model>", "compiles a model into the cache", CompileOptions, async (options, model) =>
    (await import("./compile.js")).compile({ ...options, model: model ?? options.model }),
  ),
  pull: command("pull <org/name>", "fetches a model from the Hugging Face hub", PullOptions, async (options, name) =>
    (await import("./pull.js")).pullModel(name, options),
  ),
  models: command("models", "lists the models that are here", ModelsOptions, async (options) =>
    (await import("./models.js")).models(options),
  ),
  doctor: command(
    "doctor <model>",
    "says what a model is, needs, and is refused for",
    DoctorOptions,
    async (options, model) => (await import("./doctor.js")).doctor({ ...options, model: model ?? options.model }),
  ),
  cache: command("cache ls|prune", "lists or removes compiled models", CacheOptions, async (options, action) =>
    (await import("./cache.js")).cache(action, options),
  ),
};

const USAGE = [
  "Usage:",
  ...Object.values(COMMANDS).map(({ usage, about }) => `  lambdatap ${usage.padEnd(22)}${about}`),
  "lambdatap <command> --help lists its flags; lambdatap --version says which build it is.\n",
].join("\n");

/** Runs a command line, `lambdatap` itself left out; resolves to the exit code. Errors become a sentence on stderr. */
export async function runCommandLine([name = "", ...args]: readonly string[]): Promise<number> {
  if (name === "--version" || name === "--help" || name === "-h") {
    process.stdout.write(name === "--version" ? `${packageVersion()}\n` : USAGE);
    return 0;
  }
  const chosen = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (chosen === undefined) {
    process.stderr.write(`${name === "" ? "" : `lambdatap: unknown command '${name}'\n`}${USAGE}`);
    return 2;
  }
  if (args.includes("--help") || args.includes("-h")) {
    process.stdout.write(`Usage: lambdatap ${chosen.usage} [flags]: ${chosen.about}\n${chosen.help()}\n`);
    return 0;
  }
  try {
    return await chosen.run(args);
  } catch (error) {
    const debug = args.includes("--debug") || Boolean(process.env.LAMBDATAP_DEBUG);
    process.stderr.write(`lambdatap ${name}: ${sentenceOf(error, debug)}\n`);
    if (error instanceof UsageError) process.stderr.write(`lambdatap ${name} --help lists its flags\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}
