import type { Hono } from "hono";
import { type Logger, pino } from "pino";
import type { Engine } from "../../runtime/contract/generation.js";
import { createApp } from "../../server/app.js";
import type { AppEnv } from "../../server/exchange.js";
import type { GuardRules } from "../../server/guard.js";
import { type HttpServer, listen } from "../../server/http.js";
import { createModelRegistry } from "../../server/model-registry.js";
import type { CompletionSettings } from "../../server/routes/completions.js";
import type { HeartbeatTimes } from "../../server/traces/heartbeat.js";
import { createTraceServer, type TraceLoad } from "../../server/traces/trace-server.js";

export interface ServerOptions {
  readonly aliases?: readonly string[];
  readonly settings?: Partial<CompletionSettings>;
  readonly guard?: Partial<GuardRules>;
  readonly isDraining?: () => boolean;
  readonly logger?: Logger;
  readonly heartbeat?: HeartbeatTimes;
}

/** The app in process, for `app.request()`. */
export function appOf(engine: Engine, options: ServerOptions = {}, traceLoad?: () => TraceLoad): Hono<AppEnv> {
  const isDraining = options.isDraining ?? (() => false);
  const completions = settingsOf(options);
  return createApp({ ...commonOf(engine, options), completions, isDraining, ...(traceLoad ? { traceLoad } : {}) });
}

const settingsOf = (options: ServerOptions): CompletionSettings => ({
  maxBodyBytes: 1 << 20,
  pingMs: 10_000,
  systemFingerprint: "b0.0.0",
  ...options.settings,
});

const commonOf = (engine: Engine, options: ServerOptions) => ({
  models: createModelRegistry([{ engine, aliases: options.aliases ?? [] }]),
  logger: options.logger ?? pino({ level: "silent" }),
  guard: { boundHost: "127.0.0.1", allowedHosts: [], allowedOrigins: [], ...options.guard },
});

/** The app and its trace sockets on a free port of 127.0.0.1. */
export function serve(engine: Engine, options: ServerOptions = {}): Promise<HttpServer> {
  const heartbeat = options.heartbeat === undefined ? {} : { heartbeat: options.heartbeat };
  const traces = createTraceServer({ ...commonOf(engine, options), ...settingsOf(options), ...heartbeat });
  return listen(appOf(engine, options, traces.load).fetch, "127.0.0.1", 0, traces);
}

/** The same for as long as `use` runs. */
export async function withServer(
  engine: Engine,
  use: (server: HttpServer) => Promise<void>,
  options: ServerOptions = {},
): Promise<void> {
  const server = await serve(engine, options);
  try {
    await use(server);
  } finally {
    await server.drain(0);
  }
}

/** POST /v1/completions in process. */
export async function complete(app: Hono<AppEnv>, body: unknown): Promise<Response> {
  return app.request("/v1/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}

/** Waits for what must come; fails after `limitMs`, which is far more than it takes. */
export async function until(condition: () => boolean, limitMs = 10_000): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never came true: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The data of every event of a finished stream, comments left out. */
export function eventsOf(text: string): string[] {
  return text
    .split("\n\n")
    .filter((block) => block.startsWith("data: "))
    .map((block) => block.slice("data: ".length));
}

/** Waits until a count has not changed for `quietMs`: an engine whose reader's sockets are full is not asked any more. */
export async function untilStill(count: () => number, quietMs = 200): Promise<void> {
  let before = count();
  for (let still = 0; still < quietMs; ) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    still = count() === before ? still + 10 : 0;
    before = count();
  }
}
