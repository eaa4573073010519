import { connectTraces } from "../../loadtest/client/index.js";

/**
 * The reader of bench:trace-endurance, in a process of its own: reads one trace, stops at even distances until it is told
 * to go on, and reports the ids. `node trace-reader.js <url> <body> <stops>` with an IPC channel.
 */
export interface ReaderReport {
  readonly type: "stopped" | "done";
  readonly ids: readonly number[];
}

const [url = "", body = "{}", stops = "0"] = process.argv.slice(2);
const request = JSON.parse(body);
const socket = await connectTraces(url, { highWaterMark: 1 << 16 });
const every = Math.floor(request.max_tokens / (Number(stops) + 1));
const ids: number[] = [];
for await (const frame of socket.generate(request)) {
  if (frame.type !== "token") continue;
  if (frame.seq !== ids.length) throw new Error(`token ${frame.seq} came after ${ids.length} others`);
  ids.push(frame.token_id);
  if (ids.length % every !== 0 || ids.length + every > request.max_tokens) continue;
  process.send?.({ type: "stopped", ids: [] } satisfies ReaderReport);
  await new Promise((resolve) => process.once("message", resolve));
}
await socket.close();
process.send?.({ type: "done", ids } satisfies ReaderReport, () => process.exit(0));
