import type { IncomingMessage } from "node:http";
import { WebSocket } from "ws";
import type { ErrorObject } from "./messages.js";
import { TraceError } from "./trace-error.js";
import type { Subprotocol } from "./trace-frame.js";

/**
 * Opens /v1/traces of a server.
 * @throws TraceError with the server's reason where it refuses; the connection's own error where there is no server.
 */
export async function openSocket(
  server: string | URL,
  subprotocol: Subprotocol,
  headers: Readonly<Record<string, string>>,
  handshakeTimeout: number,
): Promise<WebSocket> {
  const url = new URL(server);
  url.pathname = `${url.pathname.replace(/\/$/, "")}/v1/traces`;
  const options = { headers, perMessageDeflate: false, handshakeTimeout };
  const socket = new WebSocket(url, [subprotocol], options);
  // Whatever goes wrong later closes the socket, and its close event tells.
  socket.on("error", () => {});
  await new Promise<void>((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
    socket.once("unexpected-response", (request, response) => {
      void refusalOf(response)
        .catch((error: unknown) => error)
        .then((reason) => {
          reject(reason);
          request.destroy();
        });
    });
  });
  return socket;
}

async function refusalOf(response: IncomingMessage): Promise<Error> {
  let text = "";
  for await (const chunk of response.setEncoding("utf8")) text += chunk;
  const body: unknown = JSON.parse(text);
  return isErrorBody(body)
    ? new TraceError(body.error)
    : new Error(`the server answered ${response.statusCode}: ${text}`);
}

function isErrorBody(body: unknown): body is { readonly error: ErrorObject } {
  if (typeof body !== "object" || body === null || !("error" in body)) return false;
  const { error } = body;
  return typeof error === "object" && error !== null && "message" in error && "code" in error && "param" in error;
}
