import type { WebSocket } from "ws";
import type { Codec } from "./codec.js";
import type { ServerFrame } from "./frames.js";

/** Bytes that may wait for a reader before its generations wait. One frame may go beyond it. */
export const HIGH_WATER = 64 << 10;

/** Frames on their way to one socket. */
export interface Outbox {
  /** Resolves when less than `mark` bytes wait for the reader, or when the socket has closed. */
  room(mark?: number): Promise<void>;
  /** Sends the frame when there is room. Returns whether it did: not once the socket has closed or `signal` is aborted. */
  send(frame: ServerFrame, signal?: AbortSignal): Promise<boolean>;
  /** Sends the frame at once, if the socket is open. */
  post(frame: ServerFrame): void;
}

export function createOutbox(socket: WebSocket, codec: Codec): Outbox {
  let waiting: (() => void)[] = [];
  const isOpen = (): boolean => socket.readyState === socket.OPEN;
  const wake = (): void => {
    const woken = waiting;
    waiting = [];
    for (const resume of woken) resume();
  };
  const onWritten = (): void => {
    if (socket.bufferedAmount < HIGH_WATER) wake();
  };
  socket.on("close", wake);

  /** Calls `use` in the same turn in which there is room: whoever waits longest comes first. */
  const whenRoom = async <T>(mark: number, use: () => T): Promise<T> => {
    while (socket.bufferedAmount >= mark && isOpen()) await new Promise<void>((resolve) => waiting.push(resolve));
    return use();
  };
  const post = (frame: ServerFrame): boolean => {
    if (!isOpen()) return false;
    socket.send(codec.encode(frame), onWritten);
    return true;
  };
  return {
    room: (mark = HIGH_WATER) => whenRoom(mark, () => {}),
    send: (frame, signal) => whenRoom(HIGH_WATER, () => !signal?.aborted && post(frame)),
    post,
  };
}
