import { Hono } from "hono";
import type { Logger } from "pino";
import { HttpError } from "./errors.js";
import { type AppEnv, logExchanges } from "./exchange.js";
import { type GuardRules, guard } from "./guard.js";
import type { ModelRegistry } from "./model-registry.js";
import { chatCompletions } from "./routes/chat-completions.js";
import { type CompletionSettings, completions } from "./routes/completions.js";
import { features } from "./routes/features.js";
import { health } from "./routes/health.js";
import { models } from "./routes/models.js";
import { saes } from "./routes/saes.js";
import { traces } from "./routes/traces.js";
import type { TraceLoad } from "./traces/trace-server.js";

export interface AppOptions {
  readonly models: ModelRegistry;
  readonly logger: Logger;
  readonly guard: GuardRules;
  readonly completions: CompletionSettings;
  /** True from the moment the server takes no more requests. */
  readonly isDraining?: () => boolean;
  /** Of the trace sockets, where there are any. */
  readonly traceLoad?: () => TraceLoad;
}

const METHODS = {
  "/v1/completions": "POST",
  "/v1/chat/completions": "POST",
  "/v1/features": "POST",
  "/v1/models": "GET",
  "/v1/models/:name{.+}": "GET",
  "/v1/saes": "GET",
  "/v1/saes/:path{.+}": "GET",
  "/v1/traces": "GET",
  "/v1/traces/schema.json": "GET",
  "/health": "GET",
};

/** The whole HTTP interface as one fetch function; every error leaves it in OpenAI's shape. */
export function createApp(options: AppOptions): Hono<AppEnv> {
  const isDraining = options.isDraining ?? (() => false);
  const app = new Hono<AppEnv>();
  app.use(logExchanges(options.logger), guard(options.guard));
  app.route("/", completions(options.models, options.completions));
  app.route("/", chatCompletions(options.models, options.completions));
  app.route("/", features(options.models, options.completions));
  app.route("/", models(options.models));
  app.route("/", saes(options.models));
  app.route("/", traces(isDraining));
  app.route("/", health(options.models, isDraining, options.traceLoad));

  for (const [path, method] of Object.entries(METHODS)) {
    app.all(path, (c) => {
      const message = `${c.req.method} is not allowed on ${c.req.path}; use ${method}`;
      throw new HttpError(405, "method_not_allowed", message, { Allow: method });
    });
  }
  app.notFound((c) => {
    throw new HttpError(404, "unknown_url", `Unknown request URL: ${c.req.method} ${c.req.path}`);
  });
  app.onError((error, c) => {
    const { status, headers, body } = c.var.exchange.fail(error);
    return c.json(body, status, headers);
  });
  return app;
}
