import { randomUUID } from "node:crypto";
import type { MiddlewareHandler } from "hono";
import type { Logger } from "pino";
import { type RenderedError, renderError } from "./errors.js";

/** What one request leaves in the log: one line, when its last byte is written. Never any text of a prompt. */
export interface Exchange {
  /** From the client's X-Request-Id, or made up. */
  readonly id: string;
  /** Adds fields to the line. */
  note(fields: Readonly<Record<string, string | number | boolean>>): void;
  /** The response goes on after its handler has returned: the line waits until the returned function is called. */
  hold(): () => void;
  /** Renders the error, notes it, and logs what its message hides. */
  fail(error: unknown): RenderedError;
}

export interface AppEnv {
  Variables: { exchange: Exchange };
}

export function logExchanges(logger: Logger): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const began = performance.now();
    const given = c.req.header("x-request-id");
    const id = given !== undefined && /^[\w.-]{1,100}$/.test(given) ? given : randomUUID().replaceAll("-", "");
    const fields: Record<string, string | number | boolean> = {};
    let ended: Promise<void> | undefined;
    c.set("exchange", {
      id,
      note: (more) => Object.assign(fields, more),
      hold() {
        let release = () => {};
        ended = new Promise((resolve) => {
          release = resolve;
        });
        return () => release();
      },
      fail(error) {
        const rendered = renderError(error);
        const { code, type, param } = rendered.body.error;
        Object.assign(fields, { error: code ?? type }, param === null ? {} : { param });
        if (rendered.unexpected) logger.error({ id, err: error }, "unexpected error");
        return rendered;
      },
    });
    c.header("X-Request-Id", id);
    await next();
    const { method, path } = c.req;
    const { status } = c.res;
    const line = () =>
      logger.info({ id, method, path, status, ms: Math.round(performance.now() - began), ...fields }, "request");
    if (ended) void ended.then(line);
    else line();
  };
}
