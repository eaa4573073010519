import { HttpError } from "../errors.js";
import { SUBPROTOCOLS, type Subprotocol } from "./codec.js";

export const TRACE_PATH = "/v1/traces";

/** What the client would rather speak, of what we speak: msgpack if it names nothing, null if it names only others. */
export function chooseSubprotocol(offered: Iterable<string>): Subprotocol | null {
  const names = [...offered];
  if (names.length === 0) return SUBPROTOCOLS[0];
  for (const name of names) {
    const known = SUBPROTOCOLS.find((subprotocol) => subprotocol === name);
    if (known) return known;
  }
  return null;
}

/** Why a request's headers do not open a trace socket, its Upgrade header aside; null where they do. */
export function handshakeError(header: (name: string) => string | undefined): HttpError | null {
  const offered = header("sec-websocket-protocol");
  if (offered !== undefined && chooseSubprotocol(offered.split(",").map((name) => name.trim())) === null) {
    const message = `Unknown subprotocol '${offered}'; this server speaks ${SUBPROTOCOLS.join(" and ")}`;
    return new HttpError(400, "unknown_subprotocol", message);
  }
  const isHandshake =
    header("sec-websocket-version") === "13" && /^[+/0-9A-Za-z]{22}==$/.test(header("sec-websocket-key") ?? "");
  return isHandshake ? null : upgradeRequired();
}

export function upgradeRequired(): HttpError {
  const headers = { Upgrade: "websocket", Connection: "Upgrade", "Sec-WebSocket-Version": "13" };
  return new HttpError(426, "upgrade_required", `${TRACE_PATH} is a WebSocket (RFC 6455, version 13)`, headers);
}
