import { packageVersion } from "../../models/package-root.js";
import { type Command, command } from "./command.js";
import { sentenceOf } from "./failure.js";
import { UsageError } from "./flags.js";
import { LAB_COMMANDS } from "./lab/lab-commands.js";
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
  ...LAB_COMMANDS,
};

const usageOf = (commands: readonly Command[], last: string): string =>
  ["Usage:", ...commands.map(({ usage, about }) => `  lambdatap ${usage.padEnd(22)}${about}`), `${last}\n`].join("\n");

const USAGE = usageOf(
  Object.values(COMMANDS),
  "lambdatap <command> --help lists its flags; lambdatap --version says which build it is.",
);

/** A command's name is one word, or two (`lab train`). */
function namedIn([first = "", ...rest]: readonly string[]): {
  readonly name: string;
  readonly args: readonly string[];
} {
  const two = `${first} ${rest[0]}`;
  return Object.hasOwn(COMMANDS, two) ? { name: two, args: rest.slice(1) } : { name: first, args: rest };
}

/** Runs a command line, `lambdatap` itself left out; resolves to the exit code. Errors become a sentence on stderr. */
export async function runCommandLine(line: readonly string[]): Promise<number> {
  const { name, args } = namedIn(line);
  if (name === "--version" || name === "--help" || name === "-h") {
    process.stdout.write(name === "--version" ? `${packageVersion()}\n` : USAGE);
    return 0;
  }
  const group = Object.keys(COMMANDS).filter((each) => each.startsWith(`${name} `));
  if (group.length > 0) return showGroup(name, group, args);
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

/** What there is of a command of two words whose second is missing, asked for help or unknown. */
function showGroup(name: string, group: readonly string[], [second]: readonly string[]): number {
  const usage = usageOf(
    group.flatMap((each) => COMMANDS[each] ?? []),
    `lambdatap ${name} <command> --help lists its flags.`,
  );
  const isHelp = second === "--help" || second === "-h";
  if (isHelp) process.stdout.write(usage);
  else
    process.stderr.write(`${second === undefined ? "" : `lambdatap: unknown command '${name} ${second}'\n`}${usage}`);
  return isHelp ? 0 : 2;
}
