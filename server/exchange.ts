import type { ServerResponse } from "node:http";
import type { MiddlewareHandler } from "hono";
import type { Logger } from "pino";
import { type LogLine, openLogLine } from "./log-line.js";

/** One request as its handlers see it: its line in the log, which is written when the response's last byte is. */
export interface Exchange extends Pick<LogLine, "id" | "note" | "fail"> {
  /** The response goes on after its handler has returned: the line waits until the returned function is called. */
  hold(): () => void;
}

export interface AppEnv {
  /** What a request came with; nothing where the app is asked in process. */
  Bindings: { readonly outgoing?: ServerResponse } | undefined;
  Variables: { exchange: Exchange };
}

export function logExchanges(logger: Logger): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const line = openLogLine(logger, c.req.header("x-request-id"));
    let ended: Promise<void> | undefined;
    c.set("exchange", {
      ...line,
      hold() {
        let release = () => {};
        ended = new Promise((resolve) => {
          release = resolve;
        });
        return () => release();
      },
    });
    c.header("X-Request-Id", line.id);
    await next();
    const { method, path } = c.req;
    const { status } = c.res;
    const write = () => line.write("request", { method, path, status });
    if (ended) void ended.then(write);
    else write();
  };
}
