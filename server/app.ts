import { Hono } from "hono";
import type { Logger } from "pino";
import { type AppEnv, logExchanges } from "./exchange.js";
import { type GuardRules, guard } from "./guard.js";
import type { ModelRegistry } from "./model-registry.js";
import { chatCompletions } from "./routes/chat-completions.js";
import { type CompletionSettings, completions } from "./routes/completions.js";
import { otherMethods, unknownUrl } from "./routes/endpoints.js";
import { features } from "./routes/features.js";
import { health } from "./routes/health.js";
import { models } from "./routes/models.js";
import { root } from "./routes/root.js";
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

/** The whole HTTP interface as one fetch function; every error leaves it in OpenAI's shape. */
export function createApp(options: AppOptions): Hono<AppEnv> {
  const isDraining = options.isDraining ?? (() => false);
  // A slash at the end of a path is not meant to make another one of it.
  const app = new Hono<AppEnv>({ strict: false });
  app.use(logExchanges(options.logger), guard(options.guard));
  app.route("/", root(options.models));
  app.route("/", completions(options.models, options.completions));
  app.route("/", chatCompletions(options.models, options.completions));
  app.route("/", features(options.models, options.completions));
  app.route("/", models(options.models));
  app.route("/", saes(options.models));
  app.route("/", traces(isDraining));
  app.route("/", health(options.models, isDraining, options.traceLoad));
  app.route("/", otherMethods());
  app.notFound((c) => {
    throw unknownUrl(c.req.method, c.req.path);
  });
  app.onError((error, c) => {
    const { status, headers, body } = c.var.exchange.fail(error);
    return c.json(body, status, headers);
  });
  return app;
}
