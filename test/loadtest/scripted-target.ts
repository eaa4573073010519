import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";

export interface ScriptedTarget {
  readonly url: string;
  /** Bodies of POST /v1/completions, in order. */
  readonly asked: Record<string, unknown>[];
  /** Closes it and every connection. */
  close(): Promise<void>;
}

export interface TargetScript {
  /** GET /v1/models; default: one model that is no lambdatap's. */
  readonly models?: (response: ServerResponse) => void;
  /** POST /v1/completions. */
  readonly completions?: (body: Record<string, unknown>, response: ServerResponse) => void;
  /** GET /health; default: 404. */
  readonly health?: (response: ServerResponse) => void;
  /** What comes after a request to upgrade. */
  readonly upgrade?: (request: IncomingMessage, socket: Duplex) => void;
}

export const LAMBDATAP_CARD = {
  architecture: "llama",
  precision: "f32",
  window: 32,
  sinks: 4,
  trained_length: 64,
  layers: 2,
  vocab_size: 1000,
  saes: ["early"],
  has_tokenizer: true,
  bos_token_id: 0,
  adds_bos: true,
};

export const json = (response: ServerResponse, value: unknown, status = 200): void => {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
};

export const listModels = (response: ServerResponse, lambdatap?: object): void =>
  json(response, { object: "list", data: [{ id: "words", ...(lambdatap ? { lambdatap } : {}) }] });

/** A whole answer of one token. */
export const oneToken = (text = " w", usage: object = { prompt_tokens: 3, completion_tokens: 1 }) => ({
  choices: [{ text, finish_reason: "length" }],
  usage,
});

/** Begins a stream and writes one event with a token for each text. */
export function beginStream(response: ServerResponse, ...texts: string[]): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const text of texts) response.write(`data: ${JSON.stringify({ choices: [{ text, finish_reason: null }] })}\n\n`);
}

/** A server over a real socket that does what no good server would. */
export async function scriptedTarget(script: TargetScript = {}): Promise<ScriptedTarget> {
  const asked: Record<string, unknown>[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => {
    if (request.url === "/v1/models") return (script.models ?? listModels)(response);
    if (request.url === "/health" && script.health) return script.health(response);
    if (request.url !== "/v1/completions" || !script.completions) return json(response, { error: "no" }, 404);
    let text = "";
    request.setEncoding("utf8").on("data", (piece: string) => {
      text += piece;
    });
    request.on("end", () => {
      const body = JSON.parse(text);
      asked.push(body);
      script.completions?.(body, response);
    });
  });
  server.on("connection", (socket) => sockets.add(socket.on("close", () => sockets.delete(socket))));
  if (script.upgrade) server.on("upgrade", script.upgrade);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** The same for as long as `use` runs. */
export async function withTarget(script: TargetScript, use: (target: ScriptedTarget) => Promise<void>): Promise<void> {
  const target = await scriptedTarget(script);
  try {
    await use(target);
  } finally {
    await target.close();
  }
}
