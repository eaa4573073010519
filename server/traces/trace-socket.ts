import type { Logger } from "pino";
import type { WebSocket } from "ws";
import { ShuttingDown } from "../../runtime/contract/errors.js";
import { HttpError, renderError } from "../errors.js";
import { parseBody } from "../openai/request/parse.js";
import { badMessage, type Codec } from "./codec.js";
import { Message, WithId } from "./frames.js";
import { readInTurn } from "./inbox.js";
import { createOutbox } from "./outbox.js";
import { runTrace, submitTrace, type Trace, type TraceLimits } from "./trace.js";
import { openTraceLog, type TraceLog } from "./trace-log.js";

/** Generations that one socket may have at once. */
const MOST_GENERATIONS = 64;
/**
 * Bytes that may wait for a reader before its own messages wait too. Above HIGH_WATER, so that a reader whose tokens
 * wait can still cancel; what comes beyond that are answers to messages that are refused.
 */
const MOST_QUEUED = 1 << 20;

export interface TraceSocket {
  /** Generations that have not ended. */
  running(): number;
  /** Takes no more generations, and closes when those that run have ended. */
  drain(): void;
}

/** Answers the messages of one open socket. */
export function serveTraces(
  socket: WebSocket,
  codec: Codec,
  limits: TraceLimits,
  logger: Logger,
  socketId: string,
): TraceSocket {
  const outbox = createOutbox(socket, codec);
  const generations = new Map<string, AbortController>();
  let draining = false;
  const closeIfDrained = (): void => {
    if (draining && generations.size === 0) socket.close(1001, "the server is shutting down");
  };

  const follow = async (trace: Trace, log: TraceLog): Promise<void> => {
    const ended = await runTrace(trace, outbox, log);
    generations.delete(trace.id);
    if (!ended) log.note(socket.readyState === socket.OPEN ? { cancelled: true } : { clientGone: true });
    log.end();
    closeIfDrained();
  };
  const checkRoom = (id: string): void => {
    if (draining) throw new ShuttingDown("The server is shutting down");
    if (generations.has(id)) throw new HttpError(409, "duplicate_id", `A generation '${id}' is running on this socket`);
    if (generations.size < MOST_GENERATIONS) return;
    const message = `A socket has at most ${MOST_GENERATIONS} generations at once`;
    throw new HttpError(429, "too_many_generations", message);
  };
  /** Returns when the engine has taken or refused the generation. */
  const generate = async (id: string, body: Readonly<Record<string, unknown>>): Promise<void> => {
    const log = openTraceLog(logger, socketId);
    const generation = new AbortController();
    try {
      checkRoom(id);
      generations.set(id, generation);
      void follow(await submitTrace(id, body, limits, generation.signal, log), log);
    } catch (error) {
      if (generations.get(id) === generation) generations.delete(id);
      outbox.post({ type: "error", id, index: null, error: log.fail(error) });
      log.end();
      closeIfDrained();
    }
  };
  readInTurn(socket, async (data, isBinary) => {
    await outbox.room(MOST_QUEUED);
    let told: string | null = null;
    try {
      const message = codec.decode(data, isBinary);
      told = WithId.safeParse(message).data?.id ?? null;
      if (typeof message === "object" && message !== null && Object.hasOwn(message, "__proto__")) {
        throw badMessage("a message has no field __proto__");
      }
      const { type, id, ...body } = parseBody(Message, message);
      if (type === "cancel") generations.get(id)?.abort();
      else await generate(id, body);
    } catch (error) {
      const { body, unexpected } = renderError(error);
      if (unexpected) logger.error({ id: socketId, err: error }, "unexpected error");
      outbox.post({ type: "error", id: told, index: null, error: body.error });
    }
  });
  socket.on("close", () => {
    for (const generation of generations.values()) generation.abort();
  });
  return {
    running: () => generations.size,
    drain() {
      draining = true;
      closeIfDrained();
    },
  };
}
