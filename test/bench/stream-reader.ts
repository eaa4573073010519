import { connect } from "node:net";
import { waitingTime } from "./thread-times.js";
import { emptyStage, eventsIn, note, type Stage } from "./timeline.js";

/**
 * The client of bench:server-cost, in a process of its own: asks for a stream on a bare socket and notes when its events
 * come. `node stream-reader.js` with an IPC channel that gives the requests.
 */
export interface StreamRequest {
  readonly url: string;
  readonly body: object;
}

const own = waitingTime();
process.on("message", async ({ url, body }: StreamRequest) => process.send?.(await read(url, JSON.stringify(body))));

function read(url: string, json: string): Promise<Stage> {
  const stage = emptyStage();
  const socket = connect(Number(new URL(url).port), new URL(url).hostname);
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
    socket.on("data", (piece) => note(stage, eventsIn(piece), own));
    socket.on("close", () => resolve(stage));
  });
}
