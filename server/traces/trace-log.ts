import type { Logger } from "pino";
import type { ErrorBody } from "../errors.js";
import { type LogLine, openLogLine } from "../log-line.js";
import { TRACE_PATH } from "./handshake.js";

/** What one generation on a socket leaves in the log: one line, at its end, as a completion does (exchange.ts). */
export interface TraceLog extends Pick<LogLine, "note"> {
  countToken(): void;
  /** The error as the client gets it; notes it, and logs what its message hides. */
  fail(error: unknown): ErrorBody["error"];
  /** Writes the line. */
  end(): void;
}

/** `socket` is the id of the socket's own line. The client's id of the generation is not logged: it may be any text. */
export function openTraceLog(logger: Logger, socket: string): TraceLog {
  const line = openLogLine(logger);
  let completionTokens = 0;
  return {
    note: line.note,
    countToken() {
      completionTokens += 1;
    },
    fail: (error) => line.fail(error).body.error,
    end() {
      line.note({ completionTokens });
      line.write("generation", { socket, path: TRACE_PATH });
    },
  };
}
