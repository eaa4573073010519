import { listFiles, modelInfo } from "@huggingface/hub";
import { z } from "zod";
import type { Hub, Subject } from "./hub.js";
import { HubError } from "./hub-error.js";
import { hubFetch } from "./hub-fetch.js";
import { isCommit, isSafePath } from "./reference.js";

/** More than any model has; a server that lists for ever is left. */
const MOST_FILES = 100_000;
const MOST_PAGES = 1_000;
const MOST_JSON_BYTES = 64 * 2 ** 20;

/** A file as the hub lists it. */
export interface RemoteFile {
  /** In the repository; `isSafePath`. */
  readonly path: string;
  readonly bytes: number;
  /** Hex: sha256 of the contents of a large file, git's name of a small one. */
  readonly sum: { readonly algorithm: "sha256" | "git-sha1"; readonly hex: string };
}

/** What a revision of a repository holds. */
export interface RemoteRevision {
  readonly commit: string;
  readonly files: readonly RemoteFile[];
}

const Info = z.object({ sha: z.string().refine(isCommit) });
const Entry = z.object({
  type: z.string(),
  path: z.string(),
  size: z.int().nonnegative(),
  oid: z.string().optional(),
  lfs: z.object({ oid: z.string(), size: z.int().nonnegative() }).optional(),
});

/**
 * Asks a hub for the commit that a revision stands for, and for its files with sizes and checksums.
 * @throws HubError where it cannot be asked, or lists what no hub would: a name that leads out of its folder, no checksum.
 */
export async function readRepository(hub: Hub, subject: Subject): Promise<RemoteRevision> {
  let requests = 0;
  const asked = {
    hubUrl: hub.endpoint,
    // Not `accessToken`: the library would send it to whatever host the next page is said to be on.
    fetch: async (address: string | URL | Request) => {
      requests += 1;
      if (requests > MOST_PAGES) throw lies(hub, subject, "lists files without end");
      const answer = await hubFetch(hub, subject, address instanceof Request ? address.url : address);
      return new Response(await readBounded(answer, hub, subject), { status: answer.status, headers: answer.headers });
    },
  };
  try {
    const { repository: name, revision } = subject;
    const info = Info.safeParse(await modelInfo({ ...asked, name, revision, additionalFields: ["sha"] }));
    if (!info.success) throw lies(hub, subject, `does not say which commit '${revision}' is`);
    const commit = info.data.sha;
    const files: RemoteFile[] = [];
    for await (const entry of listFiles({
      ...asked,
      repo: { type: "model", name },
      revision: commit,
      recursive: true,
    })) {
      const file = readEntry(entry, hub, subject);
      if (file !== null) files.push(file);
      if (files.length > MOST_FILES) throw lies(hub, subject, "lists files without end");
    }
    return { commit, files };
  } catch (error) {
    if (error instanceof HubError) throw error;
    throw lies(hub, subject, `answers what is no list of files (${error instanceof Error ? error.message : error})`);
  }
}

function readEntry(value: unknown, hub: Hub, subject: Subject): RemoteFile | null {
  const parsed = Entry.safeParse(value);
  if (!parsed.success) throw lies(hub, subject, "answers what is no list of files");
  const { type, path, size, oid, lfs } = parsed.data;
  if (type !== "file") return null;
  if (!isSafePath(path))
    throw lies(
      hub,
      subject,
      `lists the file name ${JSON.stringify(path)}, which would lead out of the folder it is for`,
    );
  // The sums become file names: nothing but hex passes.
  if (lfs !== undefined && /^[0-9a-f]{64}$/.test(lfs.oid))
    return { path, bytes: lfs.size, sum: { algorithm: "sha256", hex: lfs.oid } };
  if (lfs === undefined && oid !== undefined && /^[0-9a-f]{40}$/.test(oid))
    return { path, bytes: size, sum: { algorithm: "git-sha1", hex: oid } };
  throw lies(hub, subject, `lists ${JSON.stringify(path)} without a checksum`);
}

async function readBounded(answer: Response, hub: Hub, subject: Subject): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of answer.body ?? []) {
    bytes += piece.length;
    if (bytes > MOST_JSON_BYTES) throw lies(hub, subject, "answers without end");
    pieces.push(piece);
  }
  return new Uint8Array(Buffer.concat(pieces));
}

const lies = (hub: Hub, { repository }: Subject, what: string): HubError =>
  new HubError("wrong", `${hub.endpoint} ${what}, for ${repository}: nothing is pulled from it`);
