import { isIP } from "node:net";
import type { MiddlewareHandler } from "hono";
import { HttpError } from "./errors.js";

/** Whom the server answers. Any web page can make a browser talk to localhost, so both headers are checked. */
export interface GuardRules {
  /** The address that the server is bound to. */
  readonly boundHost: string;
  /** More names that may stand in Host; "*" allows every name. */
  readonly allowedHosts: readonly string[];
  /** More origins ("https://example.com") that may ask; "*" allows every origin. */
  readonly allowedOrigins: readonly string[];
}

const LOCAL_NAMES = ["localhost", "127.0.0.1", "::1"];
const WILDCARDS = ["0.0.0.0", "::", ""];

/** Returns a check of Host and Origin that says why a request is refused, or null. For HTTP and for WebSocket upgrades. */
export function createGuard(
  rules: GuardRules,
): (host: string | undefined, origin: string | undefined) => string | null {
  const anyHost = rules.allowedHosts.includes("*");
  const names = new Set([...LOCAL_NAMES, rules.boundHost, ...rules.allowedHosts].map((name) => hostName(name) ?? name));
  const boundEverywhere = WILDCARDS.includes(rules.boundHost);
  const origins = new Set(rules.allowedOrigins.map((origin) => origin.toLowerCase().replace(/\/$/, "")));

  const hostAllowed = (host: string | undefined): boolean => {
    if (anyHost) return true;
    const name = host === undefined ? null : hostName(host);
    return name !== null && (names.has(name) || (boundEverywhere && isIP(name) !== 0));
  };
  const originAllowed = (origin: string, host: string | undefined): boolean => {
    if (origins.has("*") || origins.has(origin.toLowerCase())) return true;
    const url = httpUrl(origin);
    if (url === null) return false;
    // A page that this server itself gave out; its Host has passed, so a rebound name cannot be here unless "*" let it in.
    if (!anyHost && url.host === host?.toLowerCase()) return true;
    return LOCAL_NAMES.includes(hostName(url.host) ?? "");
  };
  return (host, origin) => {
    if (!hostAllowed(host)) return `Host '${host ?? ""}' is not served here (--allowed-host lets it in)`;
    if (origin !== undefined && !originAllowed(origin, host)) {
      return `Origin '${origin}' may not ask this server (--allowed-origin lets it in)`;
    }
    return null;
  };
}

/** Refuses foreign hosts and origins with 403, and answers the CORS preflight of those that are allowed. */
export function guard(rules: GuardRules): MiddlewareHandler {
  const refusal = createGuard(rules);
  return async (c, next) => {
    const origin = c.req.header("origin");
    const reason = refusal(c.req.header("host") ?? new URL(c.req.url).host, origin);
    if (reason !== null) throw new HttpError(403, "forbidden", reason);
    if (origin === undefined) return next();

    c.header("Access-Control-Allow-Origin", origin);
    c.header("Vary", "Origin");
    if (c.req.method !== "OPTIONS" || c.req.header("access-control-request-method") === undefined) {
      c.header("Access-Control-Expose-Headers", "X-Request-Id, X-Ignored-Fields, Retry-After");
      return next();
    }
    c.header("Access-Control-Allow-Methods", "GET, HEAD, POST");
    c.header("Access-Control-Allow-Headers", c.req.header("access-control-request-headers") ?? "Content-Type");
    c.header("Access-Control-Max-Age", "600");
    return c.body(null, 204);
  };
}

/** "[::1]:8080" -> "::1", "LocalHost.:80" -> "localhost"; null where it is no host. */
function hostName(host: string): string | null {
  if (isIP(host) !== 0) return host;
  const name = /^(?:\[([0-9a-f:.]+)\]|([^:[\]/@?#\s]+))(?::\d*)?$/i.exec(host);
  return (name?.[1] ?? name?.[2])?.toLowerCase().replace(/\.$/, "") ?? null;
}

function httpUrl(text: string): URL | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url?.protocol === "http:" || url?.protocol === "https:" ? url : null;
}
