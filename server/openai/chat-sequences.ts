import { NO_FRAME } from "../../models/tokenizer/text-frame.js";
import type { Engine, GenerationEvent } from "../../runtime/contract/generation.js";
import type { ChatRequest } from "./request/chat-request.js";
import type { TokenLimits } from "./request/max-tokens.js";
import { type CompletionWork, toChoices, workOf } from "./sequences.js";

/** What a chat request asks of the engine, and which of its end tokens the client need not hear of. */
export interface ChatWork extends CompletionWork {
  /** Ends of a turn that the template has, in place of ends of a text that the model has. */
  readonly turnEndIds: readonly number[];
}

/**
 * The meaning of a chat request on this model: its messages through the template, in n choices that end with the turn.
 * @throws InvalidRequest naming the field that this model cannot serve; ChatTemplateUnsupported; ChatTemplateFailed; the signal's reason.
 */
export async function toChatSequences(
  request: ChatRequest,
  engine: Engine,
  signal: AbortSignal,
  limits?: TokenLimits,
): Promise<ChatWork> {
  const choiceOf = await toChoices(request, engine, limits);
  const { ids, turnEndIds } = await engine.chatPrompt(request.conversation, signal);
  const ends = request.ignore_eos ? [] : turnEndIds.filter((id) => !request.stop_token_ids?.includes(id));
  const stopTokenIds = [...(request.stop_token_ids ?? []), ...ends];
  const work = workOf([{ ids, text: "", frame: NO_FRAME }], request.n ?? 1, (prompt, copy) => ({
    ...choiceOf(prompt, copy),
    stopTokenIds,
  }));
  return { ...work, turnEndIds: ends };
}

/** The end of a turn is told as the model's own end is: without a stop reason. */
export async function* withoutTurnEnds(
  events: AsyncIterable<GenerationEvent>,
  { turnEndIds }: ChatWork,
): AsyncGenerator<GenerationEvent, void> {
  for await (const event of events) {
    const turnEnded = event.type === "end" && turnEndIds.some((id) => id === event.stopReason);
    yield turnEnded ? { ...event, stopReason: null } : event;
  }
}
