import type { SaeCard, SaeReading } from "../../../../runtime/contract/features.js";
import type { Engine, GenerationEvent } from "../../../../runtime/contract/generation.js";
import type { ColorBy } from "../../../../server/cli/trace/flags.js";
import { chooseColor } from "../../../../server/cli/trace/scale.js";
import { renderTrace, type Trace, type TraceView } from "../../../../server/cli/trace/view.js";
import { parseCompletionRequest } from "../../../../server/openai/request/completion-request.js";
import { toSequences } from "../../../../server/openai/sequences.js";
import { CARD, type Script, scriptedEngine } from "../../scripted-engine.js";

export interface TraceBody {
  readonly [field: string]: unknown;
  readonly colorBy?: ColorBy;
}

/** What `lambdatap trace` makes of a request on this engine. */
export async function traceOf(
  engine: Engine,
  { colorBy = { sae: null, of: "l0" }, prompt = "Once upon a time", ...body }: TraceBody,
): Promise<Trace> {
  const request = parseCompletionRequest({ prompt, features: { top: 5 }, logprobs: 0, ...body });
  const [sequence] = (await toSequences(request, engine)).sequences;
  const features = sequence?.features;
  if (!sequence || !features) throw new Error("no features were asked for");
  const { color, dSae } = chooseColor(colorBy, features.saes, engine.card);
  const top = typeof color.of === "number" ? dSae : features.top;
  const asked = { ...sequence, features: { ...features, top } };
  return {
    card: engine.card,
    prompt: String(prompt),
    sequence: asked,
    color,
    top: features.top,
  };
}

/** All that a view writes. */
export async function rendered(
  trace: Trace,
  view: TraceView,
  engine: Pick<Engine, "decode" | "generate" | "tokenTexts">,
  signal: AbortSignal = new AbortController().signal,
): Promise<string> {
  let all = "";
  for await (const piece of renderTrace(trace, view, engine, signal)) all += piece;
  return all;
}

/** A generated token as its script says it: what it is called, what it releases (the same unless told), its readings. */
export interface Said {
  readonly name: string;
  readonly text?: string;
  readonly readings: readonly SaeReading[];
}

/** An engine whose generated tokens are these. */
export function saying(tokens: readonly Said[], saes: readonly SaeCard[] = CARD.saes, heldBack = ""): Engine {
  const script: Script = async function* (sequence, index) {
    for (const [seq, { name, text = name, readings }] of tokens.entries()) {
      const pos = sequence.prompt.length + seq;
      const event = { type: "token", index, seq, pos, tokenId: FIRST + seq, text } as const;
      yield { ...event, logprobs: { logprob: -0.5, top: [] }, features: readings } satisfies GenerationEvent;
    }
    const usage = { promptTokens: sequence.prompt.length, completionTokens: tokens.length, cachedTokens: 0 };
    yield { type: "end", index, finishReason: "length", stopReason: null, text: heldBack, ...usage };
  };
  const engine = scriptedEngine({ card: { saes }, script });
  const named = (id: number) => tokens[id - FIRST]?.name;
  return { ...engine, tokenTexts: (ids) => Array.from(ids, (id) => named(id) ?? engine.tokenTexts([id])[0] ?? "") };
}

const FIRST = 500;

/** What an SAE says of a token, where only what is given matters. */
export function readingOf(
  sae: string,
  features: Readonly<Record<number, number>> = {},
  scalars: Partial<SaeReading> = {},
): SaeReading {
  const strongest = Object.entries(features).sort(([, a], [, b]) => b - a);
  return {
    sae,
    l0: strongest.length,
    z: 13.9,
    f: 13.8,
    epsLbo: 4.7e-6,
    mse: 0.0076,
    indices: Uint32Array.from(strongest, ([feature]) => Number(feature)),
    values: Float32Array.from(strongest, ([, value]) => value),
    ...scalars,
  };
}

export function saeCard(id: string, dSae: number): SaeCard {
  const [first] = CARD.saes;
  if (first === undefined) throw new Error("the scripted engine has no SAE");
  return { ...first, id, dSae };
}
