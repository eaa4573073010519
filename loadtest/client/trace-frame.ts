import { decode } from "@msgpack/msgpack";
import type * as wire from "./messages.js";

/** How frames are written; they are the same in both. */
export type Subprotocol = "lambdatap.v1.msgpack" | "lambdatap.v1.json";

/** What one SAE says of one token. */
export interface Reading extends Omit<wire.Reading, "idx" | "val"> {
  /** Features, strongest first. */
  idx: Uint32Array;
  /** Their activations; NaN where one is not finite. */
  val: Float32Array;
}

export interface PromptFrame extends Omit<wire.PromptFrame, "saes"> {
  saes: Reading[];
}

export interface TokenFrame extends Omit<wire.TokenFrame, "saes"> {
  saes: Reading[];
}

/** What a generation yields. */
export type TraceFrame = wire.StartFrame | PromptFrame | TokenFrame | wire.EndFrame;

/** A message of the server, in either subprotocol; null where it is none that this client knows. */
export function readFrame(data: Uint8Array, isBinary: boolean): TraceFrame | wire.ErrorFrame | null {
  const message: unknown = isBinary ? decode(data) : JSON.parse(new TextDecoder().decode(data));
  if (!isServerFrame(message)) return null;
  return message.type === "prompt" || message.type === "token"
    ? { ...message, saes: message.saes.map(toReading) }
    : message;
}

const TYPES: readonly unknown[] = ["start", "prompt", "token", "end", "error"];

/** The rest is as the server's schema has it. */
function isServerFrame(message: unknown): message is wire.ServerFrame {
  return typeof message === "object" && message !== null && "type" in message && TYPES.includes(message.type);
}

function toReading(reading: wire.Reading): Reading {
  return { ...reading, idx: toIndices(reading.idx), val: toValues(reading.val) };
}

/** The bytes of a msgpack bin begin anywhere, and a typed array's may not: they are copied. */
function toIndices(idx: readonly number[] | Uint8Array): Uint32Array {
  return idx instanceof Uint8Array ? new Uint32Array(new Uint8Array(idx).buffer) : Uint32Array.from(idx);
}

function toValues(val: readonly (number | null)[] | Uint8Array): Float32Array {
  return val instanceof Uint8Array
    ? new Float32Array(new Uint8Array(val).buffer)
    : Float32Array.from(val, (value) => value ?? Number.NaN);
}
