import { parseArgs } from "node:util";
import * as z from "zod";
import { checkFlags } from "../check-flags.js";
import { SCENARIO_NAMES } from "./scenario-names.js";

const number = (what: string, check: (value: number) => boolean) =>
  z.string().transform((text, ctx) => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (check(value)) return value;
    ctx.addIssue(`wants ${what}, not '${text}'`);
    return z.NEVER;
  });
const count = (most: number) =>
  number(`a whole number from 1 to ${most}`, (n) => Number.isInteger(n) && n >= 1 && n <= most);
/** Timers cannot be set for longer than 2^31 ms. */
const seconds = number("a number of seconds above 0, at most 86400", (n) => n > 0 && n <= 86_400);

const ScenarioNames = z.string().transform((text, ctx) => {
  const names = text.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !SCENARIO_NAMES.some((known) => known === name));
  if (unknown === undefined) return SCENARIO_NAMES.filter((name) => names.includes(name));
  ctx.addIssue(`knows no scenario '${unknown}', but ${SCENARIO_NAMES.join(", ")}`);
  return z.NEVER;
});

const Options = z
  .object({
    target: z
      .array(z.string())
      .max(2, "is given once, or twice to compare two servers")
      .default(["http://127.0.0.1:8080"]),
    model: z.array(z.string().min(1, "wants a name")).default([]),
    scenarios: ScenarioNames.default([...SCENARIO_NAMES]),
    seconds: seconds.prefault("10"),
    connections: count(1024).prefault("4"),
    overload: count(1024).prefault("96"),
    rounds: count(1000).optional(),
    "max-tokens": count(1_000_000).prefault("64"),
    "prompt-words": count(1_000_000).prefault("600"),
    timeout: seconds.prefault("120"),
    out: z.string().min(1, "wants a folder").default("reports/load"),
    json: z.boolean().default(false),
  })
  .check(({ value, issues }) => {
    if (value.model.length <= value.target.length) return;
    issues.push({ code: "custom", message: "is given once, or once for each --target", input: value, path: ["model"] });
  })
  .transform(({ target, model, rounds, ...rest }) => ({
    scenarios: rest.scenarios,
    seconds: rest.seconds,
    connections: rest.connections,
    overload: rest.overload,
    maxTokens: rest["max-tokens"],
    promptWords: rest["prompt-words"],
    timeoutMs: rest.timeout * 1000,
    out: rest.out,
    json: rest.json,
    rounds: rounds ?? (target.length === 1 ? 1 : 3),
    targets: target.map((url, i) => ({ url, model: model[i] ?? model[0] })),
  }));
export type LoadOptions = z.output<typeof Options>;

export const LOAD_HELP = `npm run load -- [flags]: load on a running server of OpenAI's completion protocol

  --target <url>       the server; twice: two servers are compared, in turns; default: http://127.0.0.1:8080
  --model <name>       which of its models; default: the first
  --scenarios <names>  of ${SCENARIO_NAMES.join(", ")}, with commas between; default: all
  --seconds <s>        of each scenario, in each round; default: 10
  --rounds <n>         how often each scenario runs; default: 1, 3 where two servers are compared
  --connections <n>    requests at once, in all scenarios but overload; default: 4
  --overload <n>       requests at once in the overload scenario; default: 96
  --max-tokens <n>     tokens of an answer; default: 64
  --prompt-words <n>   words of the long prompt; default: 600
  --timeout <s>        silence after which a request has failed; default: 120
  --out <folder>       where load.json, load.md and the charts go; default: reports/load
  --json               one line of JSON instead of the tables
The key in OPENAI_API_KEY is sent as a bearer token.
`;

/** The command line; null where it asks for help. @throws Error: a sentence that names the flag. */
export function readOptions(args: readonly string[]): LoadOptions | null {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      target: { type: "string", multiple: true },
      model: { type: "string", multiple: true },
      scenarios: text,
      seconds: text,
      connections: text,
      overload: text,
      rounds: text,
      "max-tokens": text,
      "prompt-words": text,
      timeout: text,
      out: text,
      json: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  const { help, ...given } = values;
  return help ? null : checkFlags(Options, given);
}
