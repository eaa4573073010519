import type { ErrorObject } from "./messages.js";

/** The server refused a generation, failed at one, or refused the socket itself. */
export class TraceError extends Error {
  override readonly name = "TraceError";
  /** What it is for programs: "queue_full", "shutting_down", ...; null where `param` says it. */
  readonly code: string | null;
  /** The field of the request that is wrong. */
  readonly param: string | null;
  readonly type: string;

  constructor({ message, type, code, param }: ErrorObject) {
    super(message);
    this.type = type;
    this.code = code;
    this.param = param;
  }
}

/** The socket has closed; what had come before could still be read. */
export class TraceClosed extends Error {
  override readonly name = "TraceClosed";
  constructor(
    /** RFC 6455, 7.4: 1001 when the server shuts down, 1006 when the connection broke, 1009 for a message too large. */
    readonly code: number,
    readonly reason: string,
  ) {
    super(`the trace socket has closed (${code}${reason === "" ? "" : `: ${reason}`})`);
  }
}
