import { request as askHttp, type ClientRequest, type IncomingMessage } from "node:http";
import { request as askHttps } from "node:https";
import { TargetFailure } from "./failure.js";
import { parseJson } from "./parse-json.js";

/** Where requests go, and what they carry. */
export interface Server {
  /** Without /v1 and without a slash at the end. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Silence after which a request has failed, ms. There is no other limit: a long prefill may take its time. */
  readonly timeoutMs: number;
}

/** An answer whose body is read once; reading fails as TargetFailure, too. */
export interface ServerAnswer {
  readonly status: number;
  readonly type: string;
  /** Pieces of the body as they arrive. @throws TargetFailure: broken off, timed out. */
  readonly body: AsyncIterable<Uint8Array>;
  text(): Promise<string>;
  /** @throws TargetFailure (nonsense) where it is no JSON. */
  json(): Promise<unknown>;
  /** Hangs up; what is not read will not be. */
  close(): void;
}

/**
 * One request; POST where there is a body. Over node:http, because fetch gives up after 300 s without headers or without a
 * piece of the body, which a long prompt can take.
 * @throws TargetFailure: unreachable, foreign (no HTTP), timed out; the signal's reason when it aborts.
 */
export async function request(
  server: Server,
  path: string,
  body: object | null,
  signal?: AbortSignal,
): Promise<ServerAnswer> {
  signal?.throwIfAborted();
  const address = `${server.url}${path}`;
  const asked = send(server, address, body);
  const watch = watchFor(address, server.timeoutMs, signal, (why) => asked.destroy(why));
  const response = await responseOf(asked).catch((error: unknown) => {
    watch.end();
    if (!isStale(asked, error) || watch.stopped !== null) throw watch.stopped ?? connectionFailure(address, error);
    return null;
  });
  // The server closed a kept connection while the request was on its way: that is no failure, and the next one is new.
  if (response === null) return request(server, path, body, signal);
  watch.pause();
  watch.onStop((why) => response.destroy(why));

  async function* pieces(): AsyncGenerator<Uint8Array, void> {
    try {
      watch.resume();
      for await (const piece of response ?? []) {
        watch.pause();
        yield piece;
        watch.resume();
      }
    } catch (error) {
      const message = `${address} stopped in the middle of an answer: ${reasonOf(error)}`;
      throw watch.stopped ?? new TargetFailure("broken off", message, null, { cause: error });
    } finally {
      watch.end();
    }
  }
  const text = async (): Promise<string> => {
    const decoder = new TextDecoder();
    let whole = "";
    for await (const piece of pieces()) whole += decoder.decode(piece, { stream: true });
    return whole + decoder.decode();
  };
  const status = response.statusCode ?? 0;
  return {
    status,
    type: response.headers["content-type"] ?? "",
    body: pieces(),
    text,
    json: async () => parseJson(address, await text(), status),
    close() {
      watch.end();
      response.destroy();
    },
  };
}

function send({ headers }: Server, address: string, body: object | null): ClientRequest {
  const ask = address.startsWith("https:") ? askHttps : askHttp;
  const method = body === null ? "GET" : "POST";
  const asked = ask(address, { method, headers: { "content-type": "application/json", ...headers } });
  return asked.end(body === null ? undefined : JSON.stringify(body));
}

const responseOf = (asked: ClientRequest): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    asked.on("error", reject).once("response", resolve);
  });

const isStale = (asked: ClientRequest, error: unknown): boolean =>
  asked.reusedSocket && error instanceof Error && "code" in error && error.code === "ECONNRESET";

/** Stops an exchange when its signal aborts, and when it is silent for too long while somebody waits for it. */
interface Watch {
  /** Why it was stopped: what the caller is to throw. */
  readonly stopped: unknown;
  onStop(stop: (why: Error) => void): void;
  resume(): void;
  pause(): void;
  end(): void;
}

function watchFor(
  address: string,
  timeoutMs: number,
  signal: AbortSignal | undefined,
  stop: (why: Error) => void,
): Watch {
  let [stopped, hangUp]: [unknown, typeof stop] = [null, stop];
  let timer: NodeJS.Timeout | undefined;
  const give = (why: unknown): void => {
    stopped = why;
    clearTimeout(timer);
    hangUp(why instanceof Error ? why : new Error(String(why)));
  };
  const abort = () => give(signal?.reason);
  const silent = () => give(new TargetFailure("timed out", `${address} said nothing for ${timeoutMs / 1000} s`));
  signal?.addEventListener("abort", abort, { once: true });
  const watch = {
    get stopped() {
      return stopped;
    },
    onStop(instead: typeof stop) {
      hangUp = instead;
    },
    resume() {
      clearTimeout(timer);
      timer = setTimeout(silent, timeoutMs);
    },
    pause: () => clearTimeout(timer),
    end() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    },
  };
  watch.resume();
  return watch;
}

function connectionFailure(address: string, error: unknown): TargetFailure {
  const noHttp = error instanceof Error && "code" in error && String(error.code).startsWith("HPE_");
  const what = noHttp ? "does not speak HTTP" : "cannot be reached";
  const message = `${address} ${what}: ${reasonOf(error)}`;
  return new TargetFailure(noHttp ? "foreign" : "unreachable", message, null, { cause: error });
}

/** One line; an address of several tries fails with an error without words of its own. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof AggregateError && error.message === "") return error.errors.map(reasonOf).join("; ");
  return error.message || error.name;
}
