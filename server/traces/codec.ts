import { decode, Encoder } from "@msgpack/msgpack";
import { HttpError } from "../errors.js";
import { checkJsonBounds } from "../json-bounds.js";
import { toWireFloat } from "../openai/features.js";
import type { ServerFrame } from "./frames.js";
import { checkMsgpackBounds } from "./msgpack-bounds.js";

/** In the order of our preference; a client that names none gets the first. */
export const SUBPROTOCOLS = ["lambdatap.v1.msgpack", "lambdatap.v1.json"] as const;
export type Subprotocol = (typeof SUBPROTOCOLS)[number];

/** How a socket's messages are written. */
export interface Codec {
  encode(frame: ServerFrame): string | Uint8Array;
  /** @throws HttpError where the bytes are no message. */
  decode(data: Uint8Array, isBinary: boolean): unknown;
}

const packer = new Encoder();

const msgpack: Codec = {
  encode: (frame) => packer.encode(withBytes(frame)),
  decode(data, isBinary) {
    if (!isBinary) throw badMessage("a text message on a socket whose subprotocol is binary (lambdatap.v1.msgpack)");
    return decoded(() => {
      checkMsgpackBounds(data);
      return decode(data);
    });
  },
};

const json: Codec = {
  encode: (frame) => JSON.stringify(frame, withNumbers),
  decode(data, isBinary) {
    if (isBinary) throw badMessage("a binary message on a socket whose subprotocol is text (lambdatap.v1.json)");
    return decoded(() => {
      checkJsonBounds(data);
      return JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.length).toString());
    });
  },
};

/** Of the agreed subprotocol; "" where the client named none. */
export function codecOf(subprotocol: string): Codec {
  return subprotocol === "lambdatap.v1.json" ? json : msgpack;
}

/** idx and val as the bytes of their numbers; every platform that we run on is little-endian. */
function withBytes(frame: ServerFrame): object {
  if (!("saes" in frame) || frame.type === "start") return frame;
  const saes = frame.saes.map((reading) => ({ ...reading, idx: bytesOf(reading.idx), val: bytesOf(reading.val) }));
  return { ...frame, saes };
}

function bytesOf({ buffer, byteOffset, byteLength }: Uint32Array | Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** idx and val as arrays of numbers, for JSON.stringify. */
function withNumbers(_: string, value: unknown): unknown {
  if (value instanceof Float32Array) return Array.from(value, toWireFloat);
  return value instanceof Uint32Array ? [...value] : value;
}

/** What was sent is no message. */
export function badMessage(reason: string): HttpError {
  return new HttpError(400, "bad_message", reason);
}

function decoded(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    throw badMessage(`the message cannot be read: ${error instanceof Error ? error.message : error}`);
  }
}
