import { Hono } from "hono";
import type { AppEnv } from "../exchange.js";
import type { ModelRegistry } from "../model-registry.js";
import type { TraceLoad } from "../traces/trace-server.js";

/**
 * GET /health: 200 while requests are taken, 503 while the server drains, or once a model's engine has failed (then with the
 * reasons); sequences of all models, trace sockets and the bytes that wait for their readers, how many keys and values stand at an
 * end of what 8 or 4 bits hold of them, the memory of the process (rss: resident, in bytes) and what of it is kept of prompts.
 */
export function health(models: ModelRegistry, isDraining: () => boolean, traceLoad?: () => TraceLoad): Hono<AppEnv> {
  return new Hono<AppEnv>().get("/health", (c) => {
    let running = 0;
    let waiting = 0;
    let prefixes = 0;
    let saturated = 0;
    for (const engine of models.engines()) {
      const load = engine.load();
      running += load.running;
      waiting += load.waiting;
      prefixes += engine.counts.prefixBytes;
      saturated += engine.counts.saturated;
    }
    const draining = isDraining();
    const traces = traceLoad?.();
    const sockets = traces && { sockets: traces.sockets, queued_bytes: traces.queuedBytes };
    const memory = { rss: process.memoryUsage.rss(), prefixes };
    const failures = models.engines().flatMap(({ failure }) => failure ?? []);
    const status = failures.length > 0 ? "failed" : draining ? "draining" : "ok";
    const body = {
      status,
      ...(failures.length > 0 ? { failures } : {}),
      running,
      waiting,
      ...sockets,
      memory,
      saturated,
    };
    return c.json(body, status === "ok" ? 200 : 503);
  });
}
