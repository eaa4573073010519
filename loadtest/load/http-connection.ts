import autocannon from "autocannon";
import { reasonOf } from "../target/request.js";
import type { Target } from "../target/target.js";
import { followExchange } from "./http-exchange.js";
import type { Connection } from "./outcomes.js";
import type { Question } from "./question.js";

const PATH = "/v1/completions";
/** How long autocannon may take to notice that it is to stop, ms. */
const NOTICE_MS = 100;
/** autocannon's own time limits are of whole requests; ours is of silence. */
const NO_LIMIT_S = 1_000_000;

/**
 * Completions over one connection of autocannon. It is an instance of its own, because an instance is all that autocannon
 * lets go of: its clients connect again for ever, and one whose answer broke off cannot read another.
 */
export const httpConnection =
  (target: Target, question: Question, stream: boolean, turns: Iterator<number>): Connection =>
  async (outcomes, signal) => {
    const { url, timeoutMs } = target;
    let stop = (): void => {};
    const exchange = followExchange(
      { url, path: PATH, timeoutMs, streams: stream, maxTokens: question.maxTokens, onEnd: () => stop() },
      outcomes,
    );
    const listen = (client: NodeJS.EventEmitter): void => {
      client.on("request", exchange.sent);
      client.on("headers", exchange.headersCame);
      client.on("body", exchange.bodyCame);
      client.on("connError", (error) => exchange.lost(reasonOf(error), error));
    };
    const options: autocannon.Options = {
      url: `${url}${PATH}`,
      connections: 1,
      duration: NO_LIMIT_S,
      timeout: NO_LIMIT_S,
      sampleInt: NOTICE_MS,
      skipAggregateResult: true,
      ...(question.perSecond === undefined ? {} : { connectionRate: question.perSecond }),
      requests: [
        {
          method: "POST",
          headers: { "content-type": "application/json", ...target.headers },
          setupRequest: (request) => ({ ...request, body: bodyOf(target, question, stream, turns) }),
          onResponse: (status, body, _context, headers) =>
            exchange.answered({ status, body, type: contentType(headers) }),
        },
      ],
      setupClient: listen,
    };
    signal.addEventListener("abort", exchange.cut, { once: true });
    await new Promise<void>((resolve, reject) => {
      const instance = autocannon(options, (error: Error | null) => (error === null ? resolve() : reject(error)));
      stop = () => instance.stop();
    });
    signal.removeEventListener("abort", exchange.cut);
  };

function bodyOf(target: Target, question: Question, stream: boolean, turns: Iterator<number>): string {
  const { prompt, maxTokens, ignoreEos } = question;
  const streamed = stream ? { stream: true, stream_options: { include_usage: true } } : {};
  const text = prompt(turns.next().value ?? 0);
  const length = { max_tokens: maxTokens, ...(ignoreEos ? { ignore_eos: true } : {}) };
  return JSON.stringify({ model: target.model, prompt: text, ...length, ...streamed });
}

/** autocannon gives headers under the names that the server wrote. */
function contentType(headers: unknown): string {
  const entry = Object.entries(headers ?? {}).find(([name]) => name.toLowerCase() === "content-type");
  return entry === undefined ? "" : String(entry[1]);
}
