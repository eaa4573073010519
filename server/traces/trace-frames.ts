import type { SaeReading } from "../../runtime/contract/features.js";
import type { Engine, GenerationEvent } from "../../runtime/contract/generation.js";
import { toWireScalars } from "../openai/features.js";
import { toWireLogprob } from "../openai/logprob.js";
import { toUsage } from "../openai/usage.js";
import type { ServerFrame } from "./frames.js";

type TokenEvent = Extract<GenerationEvent, { type: "token" }>;
type FeaturesEvent = Extract<GenerationEvent, { type: "features" }>;
type EndEvent = Extract<GenerationEvent, { type: "end" }>;

export function tokenFrame(id: string, event: TokenEvent): ServerFrame {
  const { index, seq, pos, tokenId, text, logprobs, features } = event;
  const logprob = logprobs && toWireLogprob(logprobs.logprob);
  return { type: "token", id, index, seq, pos, token_id: tokenId, text, logprob, saes: (features ?? []).map(reading) };
}

/** One frame per prompt token. */
export function* promptFrames(
  id: string,
  { index, start, readings }: FeaturesEvent,
  prompt: Int32Array,
  engine: Engine,
): Generator<ServerFrame> {
  for (const [i, saes] of readings.entries()) {
    const pos = start + i;
    const tokenId = prompt[pos] ?? 0;
    const [text = ""] = engine.tokenTexts([tokenId]);
    yield { type: "prompt", id, index, pos, token_id: tokenId, text, saes: saes.map(reading) };
  }
}

export function endFrame(id: string, event: EndEvent): ServerFrame {
  const { index, finishReason, stopReason, text } = event;
  const usage = toUsage(event);
  return { type: "end", id, index, finish_reason: finishReason, stop_reason: stopReason, text, usage };
}

export function cancelledFrame(id: string, index: number, promptTokens: number, completionTokens: number): ServerFrame {
  const usage = toUsage({ promptTokens, completionTokens, cachedTokens: null });
  return { type: "end", id, index, finish_reason: "cancelled", stop_reason: null, text: "", usage };
}

function reading(from: SaeReading) {
  return { ...toWireScalars(from), idx: from.indices, val: from.values };
}
