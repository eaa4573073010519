import { Hono } from "hono";
import type { AppEnv } from "../exchange.js";
import type { ModelRegistry } from "../model-registry.js";

/** GET /health: 200 while requests are taken, 503 while the server drains; sequences of all models. */
export function health(models: ModelRegistry, isDraining: () => boolean): Hono<AppEnv> {
  return new Hono<AppEnv>().get("/health", (c) => {
    let running = 0;
    let waiting = 0;
    for (const engine of models.engines()) {
      const load = engine.load();
      running += load.running;
      waiting += load.waiting;
    }
    const draining = isDraining();
    return c.json({ status: draining ? "draining" : "ok", running, waiting }, draining ? 503 : 200);
  });
}
