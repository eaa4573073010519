import type { TargetFailure } from "../target/failure.js";
import { httpConnection } from "./http-connection.js";
import type { LoadTarget } from "./load-target.js";
import type { LoadOptions } from "./options.js";
import type { Connection } from "./outcomes.js";
import { chatPrompt, longPrompt } from "./prompts.js";
import type { ScenarioName } from "./scenario-names.js";
import { traceConnection } from "./trace-connection.js";

/** A kind of load. */
export interface Scenario {
  readonly name: ScenarioName;
  /** What its connections do, for the report. */
  readonly about: string;
  /** Why it makes no sense on a server; null: it does. */
  readonly skip: (load: LoadTarget) => string | null;
  readonly connections: (load: LoadTarget) => Connection[];
  readonly isExpected: (failure: TargetFailure) => boolean;
}

/** How often each connection asks in a second of the overload scenario, so that refusals do not become the load. */
const OVERLOAD_PER_SECOND = 2;
const TOO_MANY_REQUESTS = 429;

type Ask = "whole" | "long" | "stream" | "trace";

export function scenariosOf(options: LoadOptions): Scenario[] {
  const { connections: count, overload, maxTokens, promptWords } = options;
  const turns = counting();
  const long = (turn: number) => longPrompt(turn, promptWords);
  const connect = ({ target, ignoresEos }: LoadTarget, ask: Ask, perSecond?: number): Connection => {
    const common = { maxTokens, ignoreEos: ignoresEos, ...(perSecond === undefined ? {} : { perSecond }) };
    const question = { ...common, prompt: ask === "long" ? long : chatPrompt };
    return ask === "trace"
      ? traceConnection(target, question, turns)
      : httpConnection(target, question, ask !== "whole", turns);
  };
  const alike = (ask: Ask) => (load: LoadTarget) => Array.from({ length: count }, () => connect(load, ask));
  const mixed = (load: LoadTarget) => {
    const kinds: readonly Ask[] =
      tracesOf(load) === null ? ["stream", "trace", "whole", "long"] : ["stream", "whole", "long"];
    return Array.from({ length: count }, (_, i) => connect(load, kinds[i % kinds.length] ?? "stream"));
  };
  const never = () => false;
  const always = () => null;
  const answers = `answers of ${maxTokens} tokens`;
  const all: Scenario[] = [
    {
      name: "short",
      about: `chat-sized prompts, ${answers} in one piece`,
      skip: always,
      connections: alike("whole"),
      isExpected: never,
    },
    {
      name: "long",
      about: `prompts of ${promptWords} words, ${answers}, streamed`,
      skip: always,
      connections: alike("long"),
      isExpected: never,
    },
    {
      name: "streaming",
      about: `chat-sized prompts, ${answers}, streamed`,
      skip: always,
      connections: alike("stream"),
      isExpected: never,
    },
    {
      name: "traces",
      about: `the same over WebSocket, with the features of every SAE`,
      skip: tracesOf,
      connections: alike("trace"),
      isExpected: never,
    },
    {
      name: "mixed",
      about: "connections that stream, trace, ask for answers in one piece and send long prompts, in turns",
      skip: always,
      connections: mixed,
      isExpected: never,
    },
    {
      name: "overload",
      about: `as streaming, over ${overload} connections, each asking at most ${OVERLOAD_PER_SECOND} times a second; 429 is an answer here`,
      skip: always,
      connections: (load) => Array.from({ length: overload }, () => connect(load, "stream", OVERLOAD_PER_SECOND)),
      isExpected: ({ status }) => status === TOO_MANY_REQUESTS,
    },
  ];
  return all.filter(({ name }) => options.scenarios.includes(name));
}

/** Why there are no feature traces to ask for; null: there are. */
function tracesOf({ target: { lambdatap } }: LoadTarget): string | null {
  if (lambdatap === null) return "the server is no lambdatap";
  return lambdatap.saes.length === 0 ? "the model has no SAEs" : null;
}

function* counting(): Generator<number, never> {
  for (let turn = 1; ; turn++) yield turn;
}
