import { parseArgs } from "node:util";
import * as z from "zod";
import { checkFlags } from "../check-flags.js";
import { MODES, type Mode } from "./modes.js";

const whole = (least: number, most = Number.MAX_SAFE_INTEGER) =>
  z.string().transform((text, ctx) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    const range = most === Number.MAX_SAFE_INTEGER ? `of ${least} or more` : `from ${least} to ${most}`;
    ctx.addIssue(`wants a whole number ${range}, not '${text}'`);
    return z.NEVER;
  });

const Modes = z.string().transform((text, ctx): readonly Mode[] => {
  const names = text.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !MODES.some((mode) => mode === name));
  if (unknown === undefined) return MODES.filter((mode) => names.includes(mode));
  ctx.addIssue(`knows no mode '${unknown}', but ${MODES.join(", ")}`);
  return z.NEVER;
});

const Options = z
  .object({
    target: z.string().default("http://127.0.0.1:8080"),
    model: z.string().min(1, "wants a name").optional(),
    text: z.array(z.string().min(1, "wants a file or a folder")).default([]),
    tokens: whole(2, 10_000_000).prefault("1000000"),
    modes: Modes.default(MODES),
    window: whole(1).optional(),
    samples: whole(2, 1_000_000).prefault("1000"),
    "full-tokens": whole(2).optional(),
    seed: whole(0, 2 ** 31 - 1).prefault("1"),
    connections: whole(1, 256).prefault("4"),
    timeout: whole(1, 86_400).prefault("120"),
    out: z.string().min(1, "wants a folder").default("reports/perplexity"),
    json: z.boolean().default(false),
  })
  .check(({ value, issues }) => {
    if (value.text.length > 0) return;
    issues.push({ code: "custom", message: "wants a text file or a folder of them", input: value, path: ["text"] });
  })
  .transform(({ text, timeout, "full-tokens": fullTokens, ...rest }) => ({
    ...rest,
    texts: text,
    fullTokens,
    timeoutMs: timeout * 1000,
  }));
export type PerplexityOptions = z.output<typeof Options>;

export const PERPLEXITY_HELP = `npm run perplexity -- --text <book.txt> [flags]: how well a text is predicted, by position

  --text <path>        a text file, or a folder of .txt files (repeatable): documents of one sequence, in this order
  --target <url>       a lambdatap server; default: http://127.0.0.1:8080
  --model <name>       which of its models; default: the first
  --tokens <n>         length of the sequence at most; default: 1000000 (beyond some 5000000 the server needs a
                       larger --max-body-mb)
  --modes <names>      of ${MODES.join(", ")}, with commas between; default: all
  --window <n>         a smaller window than the server's
  --samples <n>        positions of each bucket at which the window is encoded anew; default: 1000
  --full-tokens <n>    length for full attention, whose cost grows with its square; default: 16 windows
  --seed <n>           chooses the positions; default: 1
  --connections <n>    requests at once where positions are sampled; default: 4
  --timeout <s>        silence after which a request has failed; default: 120
  --out <folder>       report and journal; the same command goes on where it stopped, one with more
                       --samples or other --modes adds to it; default: reports/perplexity
  --json               one line of JSON instead of the table
The key in OPENAI_API_KEY is sent as a bearer token.
`;

/** The command line; null where it asks for help. @throws Error: a sentence that names the flag. */
export function readOptions(args: readonly string[]): PerplexityOptions | null {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      text: { type: "string", multiple: true },
      target: text,
      model: text,
      tokens: text,
      modes: text,
      window: text,
      samples: text,
      "full-tokens": text,
      seed: text,
      connections: text,
      timeout: text,
      out: text,
      json: { type: "boolean" },
      help: { type: "boolean" },
    },
  });
  const { help, ...given } = values;
  return help ? null : checkFlags(Options, given);
}
