import { TargetFailure } from "./failure.js";

/** Where requests go, and what they carry. */
export interface Server {
  /** Without /v1 and without a slash at the end. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Silence after which a request has failed, ms. */
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
}

/**
 * One request; POST where there is a body.
 * @throws TargetFailure: unreachable, timed out; the signal's reason when it aborts.
 */
export async function request(
  { url, headers, timeoutMs }: Server,
  path: string,
  body: object | null,
  signal?: AbortSignal,
): Promise<ServerAnswer> {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), timeoutMs);
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), timeoutMs);
  };
  const failed = (error: unknown, kind: "unreachable" | "broken off"): unknown => {
    clearTimeout(timer);
    if (signal?.aborted) return signal.reason;
    if (silence.signal.aborted)
      return new TargetFailure("timed out", `${url}${path} said nothing for ${timeoutMs / 1000} s`);
    const what = kind === "unreachable" ? "cannot be reached" : "stopped in the middle of an answer";
    return new TargetFailure(kind, `${url}${path} ${what}: ${reasonOf(error)}`, null, { cause: error });
  };
  const asked = body === null ? {} : { method: "POST", body: JSON.stringify(body) };
  const response = await fetch(`${url}${path}`, {
    ...asked,
    headers: { "content-type": "application/json", ...headers },
    signal: AbortSignal.any([silence.signal, ...(signal ? [signal] : [])]),
  }).catch((error: unknown) => {
    throw failed(error, "unreachable");
  });

  async function* pieces(): AsyncGenerator<Uint8Array, void> {
    try {
      for await (const piece of response.body ?? []) {
        heard();
        yield piece;
      }
    } catch (error) {
      throw failed(error, "broken off");
    } finally {
      clearTimeout(timer);
    }
  }
  const text = async (): Promise<string> => {
    const decoder = new TextDecoder();
    let whole = "";
    for await (const piece of pieces()) whole += decoder.decode(piece, { stream: true });
    return whole + decoder.decode();
  };
  return {
    status: response.status,
    type: response.headers.get("content-type") ?? "",
    body: pieces(),
    text,
    async json() {
      const whole = await text();
      try {
        return JSON.parse(whole);
      } catch (error) {
        const message = `${url}${path} answers what is no JSON: ${whole.slice(0, 80)}`;
        throw new TargetFailure("nonsense", message, response.status, { cause: error });
      }
    },
  };
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message || error.cause.name : error.message;
}
