import { connect, type Socket } from "node:net";
import type { Arrivals, Plan } from "./arrivals.js";
import { eventsIn } from "./timeline.js";

/**
 * A client of a server, as cheap as can be: `node http-player.js <url>` with an IPC channel that gives plans. Every request
 * is a stream on a bare socket of its own, whose server-sent events are counted.
 */
const url = new URL(process.argv[2] ?? "");
process.on("message", async (plan: Plan) => process.send?.(await play(plan)));
process.send?.("ready");

async function play({ requests, until }: Plan): Promise<readonly Arrivals[]> {
  const open = new Set<Socket>();
  const end = () => {
    for (const socket of open) socket.destroy();
  };
  return Promise.all(
    requests.map(async ({ body, at = 0 }, i) => {
      await new Promise((resolve) => setTimeout(resolve, at));
      const isLast = (tokens: number) => i === until?.request && tokens >= until.tokens;
      return stream(JSON.stringify({ ...body, stream: true }), open, (tokens) => isLast(tokens) && end());
    }),
  );
}

function stream(json: string, open: Set<Socket>, came: (tokens: number) => void): Promise<Arrivals> {
  const tokens: number[] = [];
  const sent = performance.now();
  const socket = connect(Number(url.port), url.hostname);
  open.add(socket);
  socket.write(
    [
      "POST /v1/completions HTTP/1.1",
      "Host: localhost",
      "Content-Type: application/json",
      "Connection: close",
      `Content-Length: ${Buffer.byteLength(json)}`,
      "",
      json,
    ].join("\r\n"),
  );
  return new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.once("data", (piece) => {
      if (!piece.toString("latin1").startsWith("HTTP/1.1 200 ")) reject(new Error(piece.toString()));
    });
    socket.on("data", (piece) => {
      const now = performance.now();
      for (let events = eventsIn(piece); events > 0; events--) tokens.push(now);
      came(tokens.length);
    });
    socket.on("close", () => {
      open.delete(socket);
      resolve({ sent, tokens });
    });
  });
}
