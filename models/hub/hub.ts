import type { Environment } from "./hub-cache.js";
import { HubError } from "./hub-error.js";

const HUGGING_FACE = "https://huggingface.co";

/** A hub, and how it is asked. */
export interface Hub {
  /** Without a slash at the end. */
  readonly endpoint: string;
  readonly token: string | null;
  /** Tells of a pause before a request is sent again. */
  readonly onWait?: ((sentence: string) => void) | undefined;
}

/**
 * The hub of an environment: HF_ENDPOINT (a mirror), HF_TOKEN.
 * @throws HubError where HF_ENDPOINT is no http(s) URL.
 */
export function hubOf(env: Environment, onWait?: (sentence: string) => void): Hub {
  const endpoint = (env.HF_ENDPOINT || HUGGING_FACE).replace(/\/+$/, "");
  if (!URL.canParse(endpoint) || !/^https?:$/.test(new URL(endpoint).protocol))
    throw new HubError("unreachable", `HF_ENDPOINT is '${endpoint}', but a hub is an address such as ${HUGGING_FACE}`);
  return { endpoint, token: env.HF_TOKEN?.trim() || null, onWait };
}

/** What a request is about, for the sentences of its errors. */
export interface Subject {
  readonly repository: string;
  readonly revision: string;
}
