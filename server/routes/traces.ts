import { Hono } from "hono";
import { ShuttingDown } from "../../runtime/contract/errors.js";
import type { AppEnv } from "../exchange.js";
import { handshakeError, TRACE_PATH, upgradeRequired } from "../traces/handshake.js";
import { traceSchema } from "../traces/schema.js";

/** GET /v1/traces as HTTP, which says why no socket was opened (it is one: traces/trace-server.ts); and the schema of its messages. */
export function traces(isDraining: () => boolean): Hono<AppEnv> {
  const schema = JSON.stringify(traceSchema);
  return new Hono<AppEnv>()
    .get(TRACE_PATH, (c) => {
      if (isDraining()) throw new ShuttingDown("The server is shutting down");
      throw handshakeError((name) => c.req.header(name)) ?? upgradeRequired();
    })
    .get(`${TRACE_PATH}/schema.json`, (c) => c.body(schema, 200, { "Content-Type": "application/schema+json" }));
}
