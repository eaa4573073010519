import { connectTraces, TraceClosed, TraceError, type TraceSocket } from "../client/index.js";
import { TargetFailure } from "../target/failure.js";
import { reasonOf } from "../target/request.js";
import type { Target } from "../target/target.js";
import type { Connection, Outcomes } from "./outcomes.js";
import type { Question } from "./question.js";

/** Generations with features of all SAEs over one trace socket, one after the other. */
export const traceConnection =
  (target: Target, question: Question, turns: Iterator<number>): Connection =>
  async (outcomes, signal) => {
    const { url, headers, timeoutMs } = target;
    let socket: TraceSocket;
    try {
      socket = await connectTraces(url, { headers, handshakeTimeoutMs: timeoutMs });
    } catch (error) {
      if (!signal.aborted) outcomes.failed(handshakeFailure(url, error));
      return;
    }
    let isOpen = true;
    while (isOpen && !signal.aborted) isOpen = await trace(socket, target, question, turns, outcomes, signal);
    await socket.close();
  };

/** One generation. Returns whether the socket can be used again. */
async function trace(
  socket: TraceSocket,
  { url, model, timeoutMs }: Target,
  { prompt, maxTokens, ignoreEos }: Question,
  turns: Iterator<number>,
  outcomes: Outcomes,
  signal: AbortSignal,
): Promise<boolean> {
  const silence = new TargetFailure("timed out", `${url}/v1/traces said nothing for ${timeoutMs / 1000} s`);
  const stop = new AbortController();
  const end = () => stop.abort(signal.reason);
  signal.addEventListener("abort", end, { once: true });
  let timer = setTimeout(() => stop.abort(silence), timeoutMs);
  const arrivals: number[] = [];
  let usage: { readonly prompt_tokens: number; readonly completion_tokens: number } | null = null;
  let begun = false;
  const sentAt = performance.now();
  const request = { model, prompt: prompt(turns.next().value ?? 0), max_tokens: maxTokens, ignore_eos: ignoreEos };
  try {
    for await (const frame of socket.generate(request, { signal: stop.signal })) {
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(silence), timeoutMs);
      begun = true;
      if (frame.type === "token") arrivals.push(performance.now() - sentAt);
      if (frame.type === "end") usage = frame.usage;
    }
    const latencyMs = performance.now() - sentAt;
    const tokens = usage?.completion_tokens ?? arrivals.length;
    outcomes.answered({ latencyMs, tokens, promptTokens: usage?.prompt_tokens ?? null, arrivals });
    return true;
  } catch (error) {
    if (!signal.aborted) return outcomes.failed(error === silence ? silence : traceFailure(url, error, begun));
    outcomes.cut(arrivals.length);
    return false;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

function handshakeFailure(url: string, error: unknown): TargetFailure {
  const address = `${url}/v1/traces`;
  if (error instanceof TraceError) return traceFailure(url, error, false);
  const reason = reasonOf(error);
  if (reason === "Opening handshake has timed out")
    return new TargetFailure("timed out", `${address} does not answer the handshake`, null, { cause: error });
  const isLost = error instanceof Error && ("code" in error || reason === "socket hang up");
  const message = `${address} ${isLost ? "cannot be reached" : "is no trace socket"}: ${reason}`;
  return new TargetFailure(isLost ? "unreachable" : "foreign", message, null, { cause: error });
}

function traceFailure(url: string, error: unknown, begun: boolean): TargetFailure {
  const address = `${url}/v1/traces`;
  if (error instanceof TraceError) {
    const status = error.code === "queue_full" ? 429 : null;
    return new TargetFailure("refused", `${address} answers: ${error.message}`, status, { cause: error });
  }
  if (error instanceof TraceClosed)
    return new TargetFailure(begun ? "broken off" : "unreachable", `${address}: ${error.message}`, null, {
      cause: error,
    });
  return new TargetFailure("nonsense", `${address}: ${reasonOf(error)}`, null, { cause: error });
}
