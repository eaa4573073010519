import * as z from "zod";
import { ClientMessage, ServerFrame } from "./frames.js";

/** JSON Schema (draft 2020-12) of every message of a trace socket, in its JSON form; GET /v1/traces/schema.json. */
export const traceSchema = z.toJSONSchema(
  z.union([ServerFrame, ClientMessage]).meta({
    title: "lambdatap.v1",
    description:
      "Messages of the WebSocket /v1/traces: $defs/ServerFrame from the server, $defs/ClientMessage to it. The JSON form " +
      "(subprotocol lambdatap.v1.json); in lambdatap.v1.msgpack idx and val are bin, all else is the same.",
  }),
  { target: "draft-2020-12", io: "input", unrepresentable: "any" },
);
