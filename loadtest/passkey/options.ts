import { parseArgs } from "node:util";
import { LAMBDATAP_MODES, MODES, type Mode, type Retrieval } from "./modes.js";
import type { TrialSettings } from "./trials.js";

export interface PasskeyOptions extends TrialSettings {
  readonly target: string;
  readonly model: string | undefined;
  readonly modes: readonly Mode[] | null;
  /** Tokens, a lambdatap server's or fewer; null: as the server says. */
  readonly window: number | null;
  readonly question: string;
  /** A text file or a folder of them; null: the authors' sentences. */
  readonly filler: string | null;
  readonly retrieval: Retrieval;
  readonly connections: number;
  readonly timeoutMs: number;
  readonly out: string;
}

const DEFAULT_QUESTION = "What is the pass key? The pass key is";

const FLAGS = {
  target: { type: "string", default: "http://127.0.0.1:8080" },
  model: { type: "string" },
  modes: { type: "string" },
  lengths: { type: "string", default: "1,2,4,8,16,32,64" },
  depths: { type: "string", default: "5" },
  trials: { type: "string", default: "10" },
  digits: { type: "string" },
  question: { type: "string", default: DEFAULT_QUESTION },
  filler: { type: "string" },
  seed: { type: "string", default: "1" },
  window: { type: "string" },
  k: { type: "string" },
  "from-layer": { type: "string" },
  distance: { type: "string" },
  connections: { type: "string", default: "1" },
  timeout: { type: "string", default: "120" },
  out: { type: "string", default: "reports/passkey" },
  help: { type: "boolean", default: false },
} as const;

export const PASSKEY_HELP = `npm run passkey -- [flags]: how often a server finds a number hidden in a long prompt

  --target <url>       any server of OpenAI's protocol; default: http://127.0.0.1:8080
  --model <name>       which of its models; default: the first
  --modes <names>      of ${MODES.join(", ")}, with commas between; default: all that the target has
  --lengths <n,n>      of the prompts, as multiples of the window; default: 1,2,4,8,16,32,64
  --depths <n|random>  places of the key from the prompt's beginning to its end; default: 5
  --trials <n>         keys at each length and depth; default: 10
  --digits <n>         of every key; default: keys from 1 to 9999999
  --question <text>    at the end of the prompt; default: "${DEFAULT_QUESTION}"
  --filler <path>      a text file, or a folder of .txt files, whose sentences the key is hidden in; default: the authors'
  --seed <n>           chooses the keys; default: 1
  --window <tokens>    a smaller window than a lambdatap server's; of another target, what its model was trained on
  --k, --from-layer, --distance <n>  of mode retrieve; default: the server's
  --connections <n>    trials at once; default: 1
  --timeout <s>        silence after which a request has failed; default: 120
  --out <folder>       report and journal; run again, it goes on where it stopped; default: reports/passkey
The key in OPENAI_API_KEY is sent as a bearer token.
`;

/** The command line; null where it asks for help. @throws Error that names the flag and what it takes. */
export function readOptions(args: readonly string[]): PasskeyOptions | null {
  const { values } = parseArgs({ args: [...args], options: FLAGS });
  if (values.help) return null;
  const [k, fromLayer, distance] = [
    given("k", values.k, 1),
    given("from-layer", values["from-layer"], 0),
    given("distance", values.distance, 0),
  ];
  return {
    target: values.target,
    model: values.model,
    modes: values.modes === undefined ? null : modesOf(values.modes),
    lengths: lengthsOf(values.lengths),
    depths: values.depths === "random" ? "random" : whole("depths", values.depths, 1, 101, ", or random"),
    trials: whole("trials", values.trials, 1, 100_000),
    digits: given("digits", values.digits, 1, 15),
    question: values.question,
    filler: values.filler ?? null,
    seed: whole("seed", values.seed, 0),
    window: given("window", values.window, 1),
    retrieval: {
      ...(k === null ? {} : { k }),
      ...(fromLayer === null ? {} : { from_layer: fromLayer }),
      ...(distance === null ? {} : { distance }),
    },
    connections: whole("connections", values.connections, 1, 1000),
    timeoutMs: 1000 * whole("timeout", values.timeout, 1, 86_400),
    out: values.out,
  };
}

/** Modes to run on a target. @throws Error where it has not all of those asked for. */
export function modesFor(asked: readonly Mode[] | null, isLambdatap: boolean): readonly Mode[] {
  const offered: readonly Mode[] = isLambdatap ? LAMBDATAP_MODES : ["served"];
  const missing = asked?.find((mode) => !offered.includes(mode));
  if (missing === undefined) return asked ?? offered;
  const why = isLambdatap
    ? "a lambdatap server is told how to attend: say lambda, retrieve, full or truncation"
    : "this target is no lambdatap server, so prompts go as text to its own attention: say served";
  throw new Error(`--modes: ${missing} cannot be run, for ${why}`);
}

function modesOf(text: string): Mode[] {
  const modes = text.split(",").map((name) => MODES.find((mode) => mode === name) ?? wrong("modes", MODES, name));
  return [...new Set(modes)];
}

function lengthsOf(text: string): number[] {
  const lengths = text.split(",").map((part) => {
    const length = Number(part);
    return part.trim() !== "" && Number.isFinite(length) && length > 0
      ? length
      : wrong("lengths", ["multiples of the window with commas between them, as 1,2,4"], part);
  });
  return [...new Set(lengths)].sort((a, b) => a - b);
}

function given(flag: string, text: string | undefined, least: number, most?: number): number | null {
  return text === undefined ? null : whole(flag, text, least, most);
}

function whole(flag: string, text: string, least: number, most = Number.MAX_SAFE_INTEGER, or = ""): number {
  const value = Number(text);
  const range = most === Number.MAX_SAFE_INTEGER ? `of ${least} or more` : `from ${least} to ${most}`;
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  return wrong(flag, [`a whole number ${range}${or}`], text);
}

function wrong(flag: string, expected: readonly string[], received: string): never {
  throw new Error(`--${flag} takes ${expected.join(", ")}; received '${received}'`);
}
