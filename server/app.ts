import { Hono } from "hono";
import type { Logger } from "pino";
import { HttpError } from "./errors.js";
import { type AppEnv, logExchanges } from "./exchange.js";
import { type GuardRules, guard } from "./guard.js";
import type { ModelRegistry } from "./model-registry.js";
import { type CompletionSettings, completions } from "./routes/completions.js";
import { health } from "./routes/health.js";
import { models } from "./routes/models.js";

export interface AppOptions {
  readonly models: ModelRegistry;
  readonly logger: Logger;
  readonly guard: GuardRules;
  readonly completions: CompletionSettings;
  /** True from the moment the server takes no more requests. */
  readonly isDraining?: () => boolean;
}

const METHODS = { "/v1/completions": "POST", "/v1/models": "GET", "/v1/models/:name{.+}": "GET", "/health": "GET" };

/** The whole HTTP interface as one fetch function; every error leaves it in OpenAI's shape. */
export function createApp(options: AppOptions): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.use(logExchanges(options.logger), guard(options.guard));
  app.route("/", completions(options.models, options.completions));
  app.route("/", models(options.models));
  app.route("/", health(options.models, options.isDraining ?? (() => false)));

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
