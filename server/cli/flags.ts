import { parseArgs } from "node:util";
import * as z from "zod";

/** The command line is wrong. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What a schema cannot say of a flag. Its name, environment name, default and check come from the schema itself. */
interface Flag {
  readonly kind: "value" | "list" | "switch";
  /** What stands for the value in the help text. */
  readonly value?: string;
  readonly help: string;
  /** Where it is not LAMBDATAP_<NAME>. */
  readonly env?: string;
}

const flags = z.registry<Flag>();

/** A key of an options schema that is a flag on the command line. Its input is text: the flag's, or the variable's. */
export function flag<S extends z.ZodType>(schema: S, description: Flag): S {
  flags.add(schema, description);
  return schema;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Options and positionals of a command line. A flag wins over LAMBDATAP_<NAME>, which wins over the default.
 * @throws UsageError naming the flag or the variable.
 */
export function readOptions<S extends z.ZodObject>(
  schema: S,
  args: readonly string[],
  env: Environment,
): { readonly options: z.output<S>; readonly positionals: readonly string[] } {
  const given = new Map<string, { readonly value: unknown; readonly from: string }>();
  for (const key of Object.keys(schema.shape)) {
    const variable = envName(schema, key);
    const text = env[variable];
    if (text === undefined || text === "") continue;
    const items = flagOf(schema, key).kind === "list" ? text.split(",").map((item) => item.trim()) : text;
    given.set(key, { value: items, from: variable });
  }
  const { values, positionals } = readFlags(schema, args);
  for (const [key, flagValue] of values) given.set(key, { value: flagValue, from: flagName(key) });

  const parsed = schema.safeParse(Object.fromEntries([...given].map(([key, { value }]) => [key, value])));
  if (parsed.success) return { options: parsed.data, positionals };
  const [issue] = parsed.error.issues;
  const { from, value: wrong } = given.get(String(issue?.path[0])) ?? { from: "options", value: "" };
  throw new UsageError(`${from} '${wrong}': ${issue?.message.replace(/^Invalid input: /, "")}`);
}

/** One line per option: flag, meaning, default, environment name. */
export function helpText(schema: z.ZodObject): string {
  const defaults = schema.parse({});
  const lines = Object.keys(schema.shape).map((key) => {
    const { kind, value: name, help } = flagOf(schema, key);
    const usual = defaults[key];
    const known = kind === "value" && usual !== undefined && usual !== null ? `; default: ${usual}` : "";
    return [`  ${flagName(key)}${name ? ` <${name}>` : ""}`, `${help}${known} [${envName(schema, key)}]`] as const;
  });
  const width = Math.max(...lines.map(([left]) => left.length)) + 2;
  return lines.map(([left, right]) => `${left.padEnd(width)}${right}`).join("\n");
}

function readFlags(schema: z.ZodObject, args: readonly string[]) {
  const byName = new Map(Object.keys(schema.shape).map((key) => [flagName(key), key]));
  const config = Object.fromEntries(
    [...byName].map(([name, key]) => [
      name.slice(2),
      { type: flagOf(schema, key).kind === "switch" ? ("boolean" as const) : ("string" as const) },
    ]),
  );
  const { tokens } = parseArgs({
    args: [...args],
    options: config,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values = new Map<string, string | string[]>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value);
    if (token.kind !== "option") continue;
    const negated = token.rawName.startsWith("--no-") ? byName.get(`--${token.rawName.slice(5)}`) : undefined;
    const key = byName.get(token.rawName) ?? negated;
    const kind = key === undefined ? undefined : flagOf(schema, key).kind;
    if (key === undefined || kind === undefined || (negated !== undefined && kind !== "switch")) {
      throw new UsageError(`unknown flag ${token.rawName}`);
    }
    if (kind === "switch") {
      if (negated !== undefined && token.value !== undefined) throw new UsageError(`${token.rawName} takes no value`);
      values.set(key, token.value ?? (negated === undefined ? "true" : "false"));
      continue;
    }
    if (token.value === undefined || (!token.inlineValue && token.value.startsWith("--"))) {
      throw new UsageError(`${token.rawName} needs a value`);
    }
    const before = values.get(key);
    values.set(key, kind === "list" ? [...(Array.isArray(before) ? before : []), token.value] : token.value);
  }
  return { values, positionals };
}

function flagOf(schema: z.ZodObject, key: string): Flag {
  const option: unknown = schema.shape[key];
  const found = option instanceof z.ZodType ? flags.get(option) : undefined;
  if (found === undefined) throw new Error(`option ${key} has no description`);
  return found;
}

/** servedModelName -> --served-model-name */
function flagName(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** servedModelName -> LAMBDATAP_SERVED_MODEL_NAME */
function envName(schema: z.ZodObject, key: string): string {
  return flagOf(schema, key).env ?? `LAMBDATAP_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}
