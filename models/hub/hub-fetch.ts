import { setTimeout as sleep } from "node:timers/promises";
import type { Hub, Subject } from "./hub.js";
import { HubError } from "./hub-error.js";
import { refusal, unreachable } from "./refusal.js";

/** How often a request is sent at most, and the first pause, ms, doubled each time. */
const ATTEMPTS = 6;
const FIRST_PAUSE_MS = 500;
/** A server that asks for a longer pause is not waited for, s. */
const LONGEST_PAUSE_S = 60;
const ANSWER_MS = 60_000;
const MOST_REDIRECTS = 10;

/**
 * Asks a hub and returns its answer if that is a success. The token goes to the hub's own origin only, never along with a
 * redirect to another host. Requests that meet a busy or failing server, or a connection that breaks, are sent again.
 * @throws HubError with what to do.
 */
export async function hubFetch(
  hub: Hub,
  subject: Subject,
  address: string | URL,
  headers: Readonly<Record<string, string>> = {},
): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    let answer: Response | unknown;
    try {
      answer = await follow(hub, new URL(address), headers);
    } catch (error) {
      if (error instanceof HubError) throw error;
      answer = error;
    }
    if (answer instanceof Response && answer.ok) return answer;
    const pause = attempt < ATTEMPTS ? pauseBefore(answer, attempt) : null;
    if (answer instanceof Response) await answer.body?.cancel().catch(() => {});
    if (pause === null)
      throw answer instanceof Response ? refusal(hub, subject, answer) : unreachable(hub, subject, answer);
    hub.onWait?.(`${hub.endpoint} ${whyWaiting(answer)}; asking again in ${(pause / 1000).toFixed(1)} s`);
    await sleep(pause);
  }
}

/** Redirects by hand: fetch itself would follow them to any host, and its rules for headers are not ours to know. */
async function follow(hub: Hub, first: URL, headers: Readonly<Record<string, string>>): Promise<Response> {
  const home = new URL(hub.endpoint);
  let url = first;
  for (let hops = 0; hops <= MOST_REDIRECTS; hops++) {
    const all = new Headers({ "accept-encoding": "identity", ...headers });
    if (url.origin === home.origin && hub.token !== null) all.set("authorization", `Bearer ${hub.token}`);
    const answer = await ask(url, all);
    const target = answer.status >= 300 && answer.status < 400 ? answer.headers.get("location") : null;
    if (target === null) return answer;
    await answer.body?.cancel().catch(() => {});
    const next = new URL(target, url);
    if (!/^https?:$/.test(next.protocol) || (url.protocol === "https:" && next.protocol === "http:"))
      throw new HubError("wrong", `${url.origin} redirects to ${next.protocol}//${next.host}, which is not followed`);
    url = next;
  }
  throw new HubError("wrong", `${first.origin} redirects more than ${MOST_REDIRECTS} times`);
}

async function ask(url: URL, headers: Headers): Promise<Response> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new Error("no answer")), ANSWER_MS);
  try {
    return await fetch(url, { headers, redirect: "manual", signal: late.signal });
  } finally {
    clearTimeout(timer);
  }
}

/** Milliseconds until another try may help; null: it will not. */
function pauseBefore(answer: unknown, attempt: number): number | null {
  const pause = FIRST_PAUSE_MS * 2 ** (attempt - 1);
  if (!(answer instanceof Response)) return hasCode(answer, ["ENOTFOUND", "ECONNREFUSED"]) ? null : pause;
  if (answer.status !== 429 && answer.status < 500) return null;
  const asked = answer.headers.get("retry-after");
  if (asked === null || !/^\d+$/.test(asked)) return pause;
  return Number(asked) > LONGEST_PAUSE_S ? null : Number(asked) * 1000;
}

const whyWaiting = (answer: unknown): string =>
  answer instanceof Response ? `answers ${answer.status}` : "does not answer";

/** fetch hides the system's error in `cause`, and that of a host with several addresses in an AggregateError. */
export function hasCode(error: unknown, codes: readonly string[]): boolean {
  if (!(error instanceof Error)) return false;
  if ("code" in error && codes.includes(String(error.code))) return true;
  return (
    hasCode(error.cause, codes) || (error instanceof AggregateError && error.errors.some((e) => hasCode(e, codes)))
  );
}
