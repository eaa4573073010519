import { Hono } from "hono";
import { HttpError } from "../errors.js";
import type { AppEnv } from "../exchange.js";

interface Endpoint {
  readonly method: "GET" | "POST";
  /** As a reader writes it; what stands in braces may hold slashes. */
  readonly path: string;
  readonly about: string;
}

/** Everything that is served. */
export const ENDPOINTS: readonly Endpoint[] = [
  { method: "GET", path: "/", about: "this list" },
  { method: "POST", path: "/v1/completions", about: "goes on from a prompt (OpenAI)" },
  { method: "POST", path: "/v1/chat/completions", about: "answers a conversation (OpenAI)" },
  { method: "POST", path: "/v1/features", about: "what SAEs say of the tokens of a text" },
  { method: "GET", path: "/v1/models", about: "the models (OpenAI)" },
  { method: "GET", path: "/v1/models/{id}", about: "one of them" },
  { method: "GET", path: "/v1/saes", about: "the attached sparse autoencoders" },
  { method: "GET", path: "/v1/saes/{id}", about: "one of them, or with /features/{n} one of its features" },
  { method: "GET", path: "/v1/traces", about: "WebSocket: tokens and features as they are computed" },
  { method: "GET", path: "/v1/traces/schema.json", about: "JSON schema of its messages" },
  { method: "GET", path: "/health", about: "what runs and waits, and the memory of the server" },
];

/** Answers other methods on what is served: OPTIONS with those that there are, the rest with 405. */
export function otherMethods(): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  for (const { method, path } of ENDPOINTS) {
    const allow = method === "GET" ? "GET, HEAD, OPTIONS" : `${method}, OPTIONS`;
    app.all(path.replace(/\{(\w+)\}/, ":$1{.+}"), (c) => {
      if (c.req.method === "OPTIONS") return c.body(null, 204, { Allow: allow });
      const message = `${c.req.method} is not allowed on ${c.req.path}; use ${method}`;
      throw new HttpError(405, "method_not_allowed", message, { Allow: allow });
    });
  }
  return app;
}

/** Says that nothing is served at a path, and where the client may have wanted to go. */
export function unknownUrl(method: string, path: string): HttpError {
  const meant = likelyMeant(path);
  const hint =
    meant === null
      ? "GET / lists what is served"
      : `did you mean ${meant}?${meant.startsWith("/v1/") ? " A client's base URL ends in /v1" : ""}`;
  return new HttpError(404, "unknown_url", `Unknown request URL: ${method} ${path}; ${hint}`);
}

const PATTERNS = ENDPOINTS.slice(1).map(({ path }) => new RegExp(`^${path.replace(/\{\w+\}/, ".+")}$`));

/** No served path has more segments, and a path of thousands would take long to compare. */
const MOST_SEGMENTS = 16;

/** The served path that has the longest end in common with one that is not: without /v1, with it twice, or behind a prefix. */
function likelyMeant(path: string): string | null {
  const segments = path
    .split("/")
    .filter((segment) => segment !== "")
    .slice(-MOST_SEGMENTS);
  for (let from = 0; from < segments.length; from++) {
    const rest = segments.slice(from).join("/");
    const served = [`/v1/${rest}`, `/${rest}`].find((candidate) => PATTERNS.some((pattern) => pattern.test(candidate)));
    if (served !== undefined) return served;
  }
  return null;
}
