import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

export interface Asked {
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
  /** Whether the hub or the host that it redirects to was asked. */
  readonly host: "hub" | "storage";
}

/** A server that speaks the hub's protocol on two ports: the hub, and the storage that large files are redirected to. */
export interface FakeHub {
  readonly url: string;
  readonly asked: Asked[];
  /** Files by path; those above 1,000 bytes are LFS files. Changing one does not change what is listed. */
  readonly files: Map<string, Uint8Array>;
  /** Called first; true: it has answered. */
  intercept: (asked: Asked, response: ServerResponse) => boolean;
  /** Bytes that were sent of a file, over all requests. */
  readonly sent: Map<string, number>;
  /** Entries of the listing are replaced by what this makes of them. */
  relist: (entries: object[]) => object[];
  close(): Promise<void>;
}

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";
export const REPOSITORY = "org/tiny";
const LARGE = 1_000;
const PAGE = 3;

export async function fakeHub(files: Readonly<Record<string, Uint8Array>>): Promise<FakeHub> {
  const storage = createServer((request, response) => answer("storage", request, response));
  const server = createServer((request, response) => answer("hub", request, response));
  const listed = Object.entries(files).map(([path, bytes]) => listing(path, bytes));
  const [url, storageUrl] = [await listen(server), (await listen(storage)).replace("127.0.0.1", "localhost")];
  const hub: FakeHub = {
    url,
    asked: [],
    files: new Map(Object.entries(files)),
    intercept: () => false,
    sent: new Map(),
    relist: (entries) => entries,
    close: async () => {
      for (const each of [server, storage]) {
        each.closeAllConnections();
        await new Promise((resolve) => each.close(resolve));
      }
    },
  };

  function answer(host: Asked["host"], request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? "";
    const asked = { path, host, range: request.headers.range, authorization: request.headers.authorization };
    hub.asked.push(asked);
    if (hub.intercept(asked, response)) return;
    const [, prefix = "", rest = ""] =
      /^(\/api\/models\/org\/tiny\/|\/org\/tiny\/|\/storage\/)([^?]*)/.exec(path) ?? [];
    if (prefix === "/api/models/org/tiny/") {
      api(rest, path, response);
      return;
    }
    const name = decodeURIComponent(rest.replace(`resolve/${COMMIT}/`, ""));
    const bytes = hub.files.get(name);
    if (bytes === undefined) {
      refuse(response, 404, prefix === "" ? "RepoNotFound" : "EntryNotFound");
      return;
    }
    if (host === "hub" && bytes.length > LARGE) {
      response.writeHead(302, { location: `${storageUrl}/storage/${rest.replace(`resolve/${COMMIT}/`, "")}` }).end();
      return;
    }
    sendRange(hub, name, bytes, asked, response);
  }

  function api(rest: string, path: string, response: ServerResponse): void {
    if (/^revision\/(main|HEAD|v1|0123456789abcdef0123456789abcdef01234567)$/.test(rest))
      json(response, { id: REPOSITORY, sha: COMMIT });
    else if (rest === `tree/${COMMIT}`) tree(path, response);
    else refuse(response, 404, "RevisionNotFound");
  }

  function tree(path: string, response: ServerResponse): void {
    const from = Number(new URL(path, url).searchParams.get("cursor") ?? 0);
    const entries = hub.relist(listed);
    const next = `<${url}/api/models/org/tiny/tree/${COMMIT}?recursive=true&cursor=${from + PAGE}>; rel="next"`;
    json(response, entries.slice(from, from + PAGE), from + PAGE < entries.length ? { link: next } : {});
  }
  return hub;
}

/** Sends from the asked byte on, without compression, and counts. */
export function sendRange(hub: FakeHub, name: string, bytes: Uint8Array, asked: Asked, response: ServerResponse): void {
  const from = Number(/^bytes=(\d+)-$/.exec(asked.range ?? "")?.[1] ?? 0);
  const part = bytes.subarray(from);
  const range = { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` };
  response.writeHead(from > 0 ? 206 : 200, { "content-length": part.length, ...(from > 0 ? range : {}) });
  hub.sent.set(name, (hub.sent.get(name) ?? 0) + part.length);
  response.end(part);
}

/** Sends the first `count` bytes of what was asked, and breaks the connection. */
export function cut(
  hub: FakeHub,
  name: string,
  bytes: Uint8Array,
  count: number,
  asked: Asked,
  response: ServerResponse,
) {
  const from = Number(/^bytes=(\d+)-$/.exec(asked.range ?? "")?.[1] ?? 0);
  const range = { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` };
  response.writeHead(from > 0 ? 206 : 200, { "content-length": bytes.length - from, ...(from > 0 ? range : {}) });
  hub.sent.set(name, (hub.sent.get(name) ?? 0) + count);
  response.write(bytes.subarray(from, from + count), () => setTimeout(() => response.destroy(), 50));
}

export function refuse(
  response: ServerResponse,
  status: number,
  code?: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { ...(code ? { "x-error-code": code } : {}), ...headers }).end();
}

function listing(path: string, bytes: Uint8Array): object {
  const blob = createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
  const entry = { type: "file", path, size: bytes.length, oid: blob };
  if (bytes.length <= LARGE) return entry;
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return { ...entry, oid: "f".repeat(40), lfs: { oid: sha256, size: bytes.length, pointerSize: 130 } };
}

const json = (response: ServerResponse, value: unknown, headers: Record<string, string> = {}): void => {
  response.writeHead(200, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
};

async function listen(server: Server): Promise<string> {
  server.listen(0, "0.0.0.0");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
}
