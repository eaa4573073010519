import { InvalidRequest } from "../../runtime/contract/errors.js";
import type { Engine, GenerationEvent } from "../../runtime/contract/generation.js";
import { GenerationFailed } from "../errors.js";
import type { ModelRegistry } from "../model-registry.js";
import { ignoredFieldsHeader } from "../openai/request/check-fields.js";
import { parseCompletionRequest } from "../openai/request/completion-request.js";
import type { TokenLimits } from "../openai/request/max-tokens.js";
import { type CompletionWork, toSequences } from "../openai/sequences.js";
import type { ServerFrame } from "./frames.js";
import type { Outbox } from "./outbox.js";
import { cancelledFrame, endFrame, promptFrames, tokenFrame } from "./trace-frames.js";
import type { TraceLog } from "./trace-log.js";

/** A generation that the engine has taken. */
export interface Trace {
  readonly id: string;
  readonly model: string;
  readonly engine: Engine;
  readonly work: CompletionWork;
  readonly events: AsyncIterable<GenerationEvent>;
  /** Aborted when the generation is cancelled or its socket closes. */
  readonly signal: AbortSignal;
  /** Fields of the message that nobody knows. */
  readonly ignoredFields: readonly string[];
}

export interface TraceLimits extends TokenLimits {
  readonly models: ModelRegistry;
  /** Whether fields that nobody knows are refused. */
  readonly strictFields?: boolean;
}

/**
 * Submits the body of a generate message. It is that of POST /v1/completions, but tokens are read and have their
 * logprob unless it says otherwise; `echo` and alternatives would cost the engine work that no frame shows.
 * @throws InvalidRequest, UnknownModel, QueueFull, ShuttingDown.
 */
export async function submitTrace(
  id: string,
  body: Readonly<Record<string, unknown>>,
  limits: TraceLimits,
  signal: AbortSignal,
  log: TraceLog,
): Promise<Trace> {
  let ignoredFields: readonly string[] = [];
  const ignored = (names: readonly string[]) => {
    ignoredFields = names;
    log.note({ ignoredFields: ignoredFieldsHeader(names) });
  };
  const parsed = parseCompletionRequest(
    { features: {}, logprobs: 0, ...body },
    { strict: limits.strictFields ?? false, ignored },
  );
  if (typeof parsed.prompt_logprobs === "number")
    throw new InvalidRequest("no frame has them; POST /v1/completions answers with them", "prompt_logprobs");
  const { name, engine } = limits.models.get(parsed.model);
  log.note({ model: name });
  const readable = Object.hasOwn(body, "features") || engine.card.saes.length > 0;
  const request = {
    ...parsed,
    echo: false,
    logprobs: parsed.logprobs === null ? null : 0,
    features: readable ? parsed.features : null,
  };
  const work = await toSequences(request, engine, limits);
  log.note({ promptTokens: work.promptTokens });
  return { id, model: name, engine, work, events: engine.generate(work.sequences, signal), signal, ignoredFields };
}

/**
 * Sends a generation's frames, each when the reader has room for it. Every choice gets a start frame, and one end or
 * error frame, unless the socket closes.
 * @returns whether it came to its own end, good or bad: it was not cancelled, and its reader was there.
 */
export async function runTrace(trace: Trace, outbox: Outbox, log: TraceLog): Promise<boolean> {
  const { id, work, signal } = trace;
  const open = new Map(work.sequences.map((_, index) => [index, 0]));
  let failure: unknown = null;
  try {
    if (!(await sendEvents(trace, open, outbox, log))) {
      for (const [index, tokens] of open) {
        await outbox.send(cancelledFrame(id, index, work.promptOf(index).ids.length, tokens));
      }
      return false;
    }
    if (open.size > 0) failure = new Error(`the engine fell silent with ${open.size} choices open`);
  } catch (error) {
    failure = error;
  }
  for (const index of open.keys()) await outbox.send({ type: "error", id, index, error: log.fail(failure) });
  return !signal.aborted;
}

/**
 * An event is taken from the engine when its reader has room, so a slow reader pauses its own sequences. `open` has the
 * tokens sent of every choice that has not ended. Returns whether the events came to their end.
 */
async function sendEvents(trace: Trace, open: Map<number, number>, outbox: Outbox, log: TraceLog): Promise<boolean> {
  const { id, model, work, signal, ignoredFields } = trace;
  const ignored = ignoredFields.length === 0 ? {} : { ignored_fields: [...ignoredFields] };
  for (const [index, { prompt, features }] of work.sequences.entries()) {
    const saes = [...(features?.saes ?? [])];
    await outbox.send({ type: "start", id, index, model, prompt_tokens: prompt.length, saes, ...ignored });
  }
  for await (const event of trace.events) {
    const { index } = event;
    for (const frame of toFrames(trace, event, log)) {
      if (!(await outbox.send(frame, signal))) return false;
      if (frame.type === "token") {
        open.set(index, (open.get(index) ?? 0) + 1);
        log.countToken();
      } else if (frame.type !== "prompt") open.delete(index);
    }
    await outbox.room();
  }
  return !signal.aborted;
}

function* toFrames({ id, work, engine }: Trace, event: GenerationEvent, log: TraceLog): Generator<ServerFrame> {
  switch (event.type) {
    case "features":
      return yield* promptFrames(id, event, work.promptOf(event.index).ids, engine);
    case "token":
      return yield tokenFrame(id, event);
    case "end":
      return yield endFrame(id, event);
    case "error":
      return yield { type: "error", id, index: event.index, error: log.fail(new GenerationFailed(event.error)) };
  }
}
