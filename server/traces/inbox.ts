import type { WebSocket } from "ws";

/**
 * Hands a socket's messages over one after another. While one is being dealt with, no more are read than those that
 * have come with it, so that a burst waits with its sender and not in our memory.
 */
export function readInTurn(socket: WebSocket, take: (data: Uint8Array, isBinary: boolean) => Promise<void>): void {
  const waiting: { readonly data: Uint8Array; readonly isBinary: boolean }[] = [];
  let busy = false;
  socket.on("message", async (data, isBinary) => {
    if (!Buffer.isBuffer(data)) return; // what `binaryType` promises
    waiting.push({ data, isBinary });
    if (busy) return socket.pause();
    busy = true;
    for (let next = waiting.shift(); next && socket.readyState === socket.OPEN; next = waiting.shift()) {
      await take(next.data, next.isBinary);
    }
    waiting.length = 0;
    busy = false;
    if (socket.isPaused) socket.resume();
  });
}
