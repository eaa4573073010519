import type { SaeReading } from "../../../runtime/contract/features.js";
import type { Engine, GenerationEvent, ModelCard, SequenceRequest } from "../../../runtime/contract/generation.js";
import { GenerationFailed } from "../../errors.js";
import { toWireReading, type WireReading } from "../../openai/features.js";
import { toWireLogprob } from "../../openai/logprob.js";
import { type Color, colorValue } from "./scale.js";

/** A sequence to be shown with its readings. */
export interface Trace {
  readonly card: ModelCard;
  readonly prompt: string;
  readonly sequence: SequenceRequest;
  /** What its tokens are coloured by. */
  readonly color: Color;
  /** Features shown per token and SAE at most. */
  readonly top: number;
}

/** A token and what the SAEs say of it. */
export interface TracedToken {
  /** Its number among the generated tokens; null in the prompt. */
  readonly seq: number | null;
  readonly pos: number;
  readonly tokenId: number;
  /** The token on its own, as `Engine.tokenTexts` has it. */
  readonly name: string;
  /** The text that it releases: "" while a character is incomplete, or a stop string undecided. */
  readonly text: string;
  readonly logprob: number | null;
  readonly saes: readonly WireReading[];
  /** What it is coloured by (`colorValue`). */
  readonly value: number | null;
}

export interface TraceEnding {
  readonly finishReason: "stop" | "length" | "cancelled";
  readonly stopReason: string | number | null;
  readonly text: string;
  readonly completionTokens: number;
}

/** What is written for a trace, piece by piece. */
export interface TraceView {
  start(): string;
  token(token: TracedToken): string;
  /** null: it broke off. */
  end(ending: TraceEnding | null): string;
}

/**
 * The events of one sequence, as a view writes them. Where the signal stops them, the view still ends.
 * @throws GenerationFailed after the view has ended, if the sequence failed.
 */
export async function* renderTrace(
  trace: Trace,
  view: TraceView,
  engine: Pick<Engine, "decode" | "generate" | "tokenTexts">,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const { prompt, features } = trace.sequence;
  const names = features?.prompt ? engine.tokenTexts(prompt) : [];
  const texts = promptTexts(prompt, names, engine);
  let completionTokens = 0;
  let ending: TraceEnding | null = null;
  let failure: { readonly error: unknown } | null = null;

  yield view.start();
  try {
    for await (const event of engine.generate([trace.sequence], signal)) {
      if (event.type === "error") throw new GenerationFailed(event.error);
      if (event.type === "features") {
        for (const [i, readings] of event.readings.entries()) {
          const pos = event.start + i;
          const token = { seq: null, pos, tokenId: prompt[pos] ?? 0, name: names[pos] ?? "", logprob: null };
          yield view.token({ ...token, text: texts[pos] ?? "", ...read(trace, readings) });
        }
      } else if (event.type === "token") {
        completionTokens += 1;
        yield view.token(generated(trace, event, engine));
      } else if (event.type === "end") ending = event;
    }
  } catch (error) {
    if (!signal.aborted) failure = { error };
  }
  if (failure === null) {
    ending ??= { finishReason: "cancelled", stopReason: null, text: "", completionTokens };
  }
  yield view.end(ending);
  if (failure !== null) throw failure.error;
}

function generated(
  trace: Trace,
  { seq, pos, tokenId, text, logprobs, features }: Extract<GenerationEvent, { type: "token" }>,
  engine: Pick<Engine, "tokenTexts">,
): TracedToken {
  const [name = ""] = engine.tokenTexts([tokenId]);
  const logprob = logprobs && toWireLogprob(logprobs.logprob);
  return { seq, pos, tokenId, name, text, logprob, ...read(trace, features ?? []) };
}

function read({ color, top }: Trace, readings: readonly SaeReading[]): Pick<TracedToken, "saes" | "value"> {
  const saes = readings.map((reading) =>
    toWireReading({ ...reading, indices: reading.indices.subarray(0, top), values: reading.values.subarray(0, top) }),
  );
  return { saes, value: colorValue(color, readings) };
}

/** UTF-8 has at most so many bytes per character, and a token at least one. */
const LONGEST_CHARACTER = 4;

/** What each prompt token adds to the text, as generated tokens do: a character comes with the last token that it takes. */
function promptTexts(ids: Int32Array, names: readonly string[], engine: Pick<Engine, "decode">): string[] {
  let open: number[] = [];
  return names.map((name, i) => {
    open.push(ids[i] ?? 0);
    const whole = open.length === 1 && !name.startsWith("bytes:");
    const text = whole ? name : engine.decode(open);
    if (text.endsWith("\ufffd") && open.length < LONGEST_CHARACTER && i + 1 < names.length) return "";
    open = [];
    return text;
  });
}
