import { once } from "node:events";
import { decode, encode } from "@msgpack/msgpack";
import { type ClientOptions, WebSocket } from "ws";
import * as z from "zod";
import { until } from "./with-server.js";

export const SUBPROTOCOLS = ["lambdatap.v1.msgpack", "lambdatap.v1.json"] as const;
export type Subprotocol = (typeof SUBPROTOCOLS)[number];

/** What tests ask of a frame; traces-schema.test.ts has every field. */
const Reading = z.looseObject({ sae: z.string(), idx: z.array(z.number()), val: z.array(z.number().nullable()) });
const WireFrame = z.looseObject({
  type: z.string(),
  id: z.string().nullable(),
  index: z.number().nullable(),
  seq: z.number().optional(),
  pos: z.number().optional(),
  token_id: z.number().optional(),
  text: z.string().optional(),
  logprob: z.number().nullable().optional(),
  finish_reason: z.string().optional(),
  usage: z.looseObject({ completion_tokens: z.number() }).optional(),
  error: z.looseObject({ code: z.string().nullable(), param: z.string().nullable(), message: z.string() }).optional(),
});
export type WireFrame = z.output<typeof WireFrame>;

/** A trace socket without a client's manners. */
export interface RawTraces {
  readonly socket: WebSocket;
  /** All that came, idx and val as arrays of numbers. */
  readonly frames: WireFrame[];
  /** Code and reason, once it has closed. */
  readonly closed: Promise<unknown[]>;
  send(...messages: object[]): void;
  /** Frames of one generation. */
  of(id: string | null): WireFrame[];
  /** Resolves when so many frames of that type have come. */
  have(type: string, count?: number): Promise<void>;
}

export async function openTraces(
  url: string,
  subprotocol: Subprotocol | null = "lambdatap.v1.json",
  options: ClientOptions = {},
): Promise<RawTraces> {
  const socket = new WebSocket(`${url}/v1/traces`, subprotocol === null ? [] : [subprotocol], {
    perMessageDeflate: false,
    ...options,
  });
  const frames: WireFrame[] = [];
  socket.on("message", (data, isBinary) => frames.push(readWire(data, isBinary)));
  const closed = new Promise<unknown[]>((resolve) => {
    socket.on("close", (code, reason) => resolve([code, reason.toString()]));
  });
  await once(socket, "open");
  socket.on("error", () => {});
  return {
    socket,
    frames,
    closed,
    send(...messages) {
      for (const message of messages) {
        socket.send(subprotocol === "lambdatap.v1.json" ? JSON.stringify(message) : encode(message));
      }
    },
    of: (id) => frames.filter((frame) => frame.id === id),
    have: (type, count = 1) => until(() => frames.filter((frame) => frame.type === type).length >= count),
  };
}

function readWire(data: unknown, isBinary: boolean): WireFrame {
  if (!Buffer.isBuffer(data)) throw new Error("not a buffer");
  return WireFrame.parse(isBinary ? withNumbers(decode(data)) : JSON.parse(data.toString()));
}

const Bins = z.looseObject({
  saes: z.array(z.looseObject({ idx: z.instanceof(Uint8Array), val: z.instanceof(Uint8Array) })),
});

/** The JSON form of a frame that came in MessagePack. */
function withNumbers(frame: unknown): unknown {
  const { success, data } = Bins.safeParse(frame);
  if (!success) return frame;
  const saes = data.saes.map(({ idx, val, ...scalars }) => ({
    ...scalars,
    idx: words(idx, (view, at) => view.getUint32(at, true)),
    val: words(val, (view, at) => view.getFloat32(at, true)),
  }));
  return { ...data, saes };
}

function words(bytes: Uint8Array, read: (view: DataView, at: number) => number): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / 4 }, (_, i) => read(view, i * 4));
}

export const readingsOf = (frame: WireFrame | undefined) => z.array(Reading).parse(frame?.saes);
