import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import * as z from "zod";

/** Words are its tokens. */
export const [WINDOW, SINKS] = [100, 4];

export type Fault =
  | "refuses"
  | "is busy"
  | "answers nonsense"
  | "answers no stream"
  | "writes too much"
  | "breaks off"
  | "ends early"
  | "closes"
  | "says nothing";

const Body = z.object({
  prompt: z.union([z.string(), z.array(z.int())]),
  max_tokens: z.int(),
  temperature: z.number().optional(),
  stream: z.boolean().optional(),
  lm_infinite: z
    .object({ mode: z.string(), window: z.int().optional(), retrieve: z.object().loose().optional() })
    .optional(),
});
export type Body = z.output<typeof Body>;

export interface ScriptedTarget {
  readonly url: string;
  /** Prompts that were to be answered, as they came. */
  readonly asked: Body[];
  /** The text of a prompt. */
  wordsOf(body: Body): string[];
  /** Tokens that a text of so many words has beyond them. */
  extra: (words: number) => number;
  /** What goes wrong with the nth answer, from 0 on. */
  fault: (n: number) => Fault | null;
}

/** Every request has a connection of its own: one that was kept and then closed may be asked anew. */
const ONCE = { connection: "close" };

const CARD = {
  architecture: "scripted",
  precision: "f32",
  window: WINDOW,
  sinks: SINKS,
  trained_length: WINDOW,
  layers: 1,
  vocab_size: 10_000,
  saes: [],
  has_tokenizer: true,
  bos_token_id: 0,
  adds_bos: true,
};

/**
 * A server on a free port that finds a pass key wherever it sees it: in the first and last tokens in mode lambda, everywhere
 * with retrieval, in mode full and as another server than lambdatap.
 */
export async function withTarget(
  use: (target: ScriptedTarget) => Promise<void>,
  lambdatap: object | null = CARD,
): Promise<void> {
  const vocabulary = ["<bos>"];
  const idOf = (word: string): number => {
    const known = vocabulary.indexOf(word);
    return known === -1 ? vocabulary.push(word) - 1 : known;
  };
  const asked: Body[] = [];
  const wordsOf = ({ prompt }: Body): string[] =>
    typeof prompt === "string" ? prompt.split(" ") : prompt.map((id) => vocabulary[id] ?? "");
  const target: ScriptedTarget = { url: "", asked, wordsOf, extra: () => 0, fault: () => null };
  let answers = 0;

  const encode = (words: readonly string[]): number[] => [
    ...Array<number>(1 + target.extra(words.length)).fill(0),
    ...words.map(idOf),
  ];

  const complete = (body: Body, response: ServerResponse): void => {
    const ids = typeof body.prompt === "string" ? encode(body.prompt.split(" ")) : body.prompt;
    const usage = { prompt_tokens: ids.length, completion_tokens: body.max_tokens };
    if (!body.stream) json(response, { choices: [{ text: "", ...(lambdatap && { prompt_token_ids: ids }) }], usage });
    else answer(body, ids, usage, response);
  };

  const answer = (body: Body, ids: readonly number[], usage: object, response: ServerResponse): void => {
    asked.push(body);
    const fault = target.fault(answers++);
    if (fault === "closes") response.destroy();
    else if (fault === "refuses") json(response, { error: { message: "no memory for that" } }, 400);
    else if (fault === "is busy") json(response, { error: { message: "too many requests" } }, 429);
    else if (fault === "answers no stream") json(response, { choices: [{ text: "" }], usage });
    else if (fault !== "says nothing") stream(body, ids, usage, fault, response);
  };

  const stream = (
    body: Body,
    ids: readonly number[],
    usage: object,
    fault: Fault | null,
    response: ServerResponse,
  ): void => {
    const words = wordsOf({ ...body, prompt: [...ids] });
    const seesAll = lambdatap === null || body.lm_infinite?.mode === "full" || body.lm_infinite?.retrieve !== undefined;
    const seen = seesAll ? words : [...words.slice(0, SINKS), ...words.slice(SINKS).slice(-WINDOW)];
    const key = /The pass key is (\d+)\. Remember/.exec(seen.join(" "))?.[1] ?? "1";
    response.writeHead(200, { "content-type": "text/event-stream", ...ONCE });
    const send = (data: object) => response.write(`data: ${JSON.stringify(data)}\n\n`);
    send(fault === "answers nonsense" ? { choices: "none" } : { choices: [{ text: ` ${key}` }] });
    if (fault === "breaks off") setTimeout(() => response.destroy(), 10);
    if (fault === "ends early") response.end();
    if (fault === "breaks off" || fault === "ends early") return;
    send({ choices: [{ text: "." }] });
    const written = fault === "writes too much" ? body.max_tokens + 1 : 2;
    send({ choices: [], usage: { ...usage, completion_tokens: written } });
    response.end("data: [DONE]\n\n");
  };

  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    if (request.url === "/v1/models") json(response, { data: [{ id: "words", ...(lambdatap && { lambdatap }) }] });
    else void text(request).then((sent) => complete(Body.parse(JSON.parse(sent)), response));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  try {
    await use(Object.assign(target, { url: `http://127.0.0.1:${port}` }));
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

function json(response: ServerResponse, value: object, status = 200): void {
  response.writeHead(status, { "content-type": "application/json", ...ONCE }).end(JSON.stringify(value));
}
