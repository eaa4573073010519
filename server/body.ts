import { InvalidRequest } from "../runtime/contract/errors.js";
import { ClientGone, HttpError } from "./errors.js";
import { checkJsonBounds } from "./json-bounds.js";

/** Also those that say which JSON it is; a charset behind it changes nothing (RFC 8259, section 11). */
const JSON_TYPE = /^application\/(?:[^/]+\+)?json$/;

/** A request's body, and what it says. */
export interface JsonBody {
  readonly text: string;
  readonly value: unknown;
}

/** The JSON value in a request's body. @throws as `readBody`. */
export const readJson = async (request: Request, maxBytes: number): Promise<unknown> =>
  (await readBody(request, maxBytes)).value;

/**
 * The JSON in a request's body. Stops reading at the limit, so that no body is held that will be refused.
 * @throws HttpError 415 (media type), 413 (more than `maxBytes`); InvalidRequest where it is not JSON in UTF-8, or JSON that
 * would take far more memory than its bytes (part-counter.ts).
 */
export async function readBody(request: Request, maxBytes: number): Promise<JsonBody> {
  const mediaType = request.headers.get("content-type")?.split(";", 1)[0]?.trim().toLowerCase();
  // No other type is taken for JSON: text/plain, a form's and none at all are what any web page may send anywhere unasked.
  if (mediaType === undefined || !JSON_TYPE.test(mediaType)) {
    const received = mediaType === undefined ? "none" : `'${mediaType}'`;
    const how = "(curl: --json in place of -d)";
    const message = `The body must be sent with Content-Type: application/json ${how}, received ${received}`;
    throw new HttpError(415, "unsupported_media_type", message);
  }
  const encoding = request.headers.get("content-encoding") ?? "identity";
  if (encoding !== "identity") {
    throw new HttpError(415, "unsupported_media_type", `Content-Encoding '${encoding}' is not supported`);
  }
  const bytes = await readBytes(request, maxBytes);
  if (bytes.length === 0) throw new InvalidRequest("The body is empty; expected a JSON object", null);
  try {
    checkJsonBounds(bytes);
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return { text, value: JSON.parse(text) };
  } catch (error) {
    throw new InvalidRequest(
      `The body cannot be read as JSON: ${error instanceof Error ? error.message : error}`,
      null,
    );
  }
}

async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) throw tooLarge(maxBytes);
  const chunks: Uint8Array[] = [];
  let size = 0;
  const reader = request.body?.getReader();
  while (reader) {
    const { done, value } = await reader.read().catch(() => {
      throw new ClientGone("The client hung up while it sent the body");
    });
    if (done) break;
    size += value.length;
    // Not cancelled: that would destroy the socket before the 413 is out. The HTTP server reads off a bounded rest.
    if (size > maxBytes) throw tooLarge(maxBytes);
    chunks.push(value);
  }
  return Buffer.concat(chunks, size);
}

function tooLarge(maxBytes: number): HttpError {
  return new HttpError(413, "body_too_large", `The body is larger than this server takes (${maxBytes} bytes)`);
}
