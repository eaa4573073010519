import { randomUUID } from "node:crypto";
import type { Logger } from "pino";
import { type RenderedError, renderError } from "./errors.js";

type Fields = Readonly<Record<string, string | number | boolean>>;

/** What a request leaves in the log: one line, at its end. Never any text of a prompt. */
export interface LogLine {
  readonly id: string;
  /** Adds fields to the line. */
  note(fields: Fields): void;
  /** Renders the error, notes it, and logs at once what its message hides. */
  fail(error: unknown): RenderedError;
  /** Writes the line: these fields, the milliseconds since it was opened, and what was noted. */
  write(message: string, fields: Fields): void;
}

/** `given` is the client's X-Request-Id, the line's id unless it is nothing that belongs in a log; else one is made up. */
export function openLogLine(logger: Logger, given?: string): LogLine {
  const began = performance.now();
  const id = given !== undefined && /^[\w.-]{1,100}$/.test(given) ? given : randomUUID().replaceAll("-", "");
  const noted: Record<string, string | number | boolean> = {};
  return {
    id,
    note: (fields) => Object.assign(noted, fields),
    fail(error) {
      const rendered = renderError(error);
      const { code, type, param } = rendered.body.error;
      Object.assign(noted, { error: code ?? type }, param === null ? {} : { param });
      if (rendered.unexpected) logger.error({ id, err: error }, "unexpected error");
      return rendered;
    },
    write(message, fields) {
      logger.info({ id, ...fields, ms: Math.round(performance.now() - began), ...noted }, message);
    },
  };
}
