import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import type { Hub, Subject } from "./hub.js";
import { ChecksumError, HubError } from "./hub-error.js";
import { hasCode, hubFetch } from "./hub-fetch.js";
import { unreachable } from "./refusal.js";
import type { RemoteFile } from "./repository.js";

/** A connection that says nothing for so long is given up, ms. */
const SILENCE_MS = 60_000;
/** Connections that break one after the other without bringing a byte. */
const BROKEN_IN_VAIN = 5;

export interface Download {
  readonly hub: Hub;
  readonly subject: Subject;
  readonly file: RemoteFile;
  readonly address: string;
  /** Where the whole file appears; what has come of it lies beside, until the next try. */
  readonly target: string;
  /** Called with the bytes that are there. */
  readonly onBytes: (bytes: number) => void;
}

/** Where the beginning of a file waits for its rest. Other tools have their own names: theirs may have holes. */
export const partialOf = (target: string): string => `${target}.lambdatap.incomplete`;

/**
 * Fetches a file, from where an earlier try ended, and shows it under its final name when its checksum is right.
 *
 * It is asked for by its plain address (`resolve`), from which the hub redirects to where the bytes are, those in Xet
 * storage too. The Xet protocol (chunks rebuilt from several hosts), which @huggingface/hub also speaks, has no ranges to
 * resume from, needs a second kind of token, and no server that we could test it against.
 * @returns bytes that came over the network
 * @throws ChecksumError; HubError where it does not come, or there is no room for it.
 */
export async function download(asked: Download): Promise<number> {
  const { file, target } = asked;
  const partial = partialOf(target);
  for (let fetched = 0; ; ) {
    const before = await sizeOf(partial);
    if (before > file.bytes) await rm(partial, { force: true });
    const { hash, bytes } = await fill(asked, partial);
    fetched += bytes;
    const found = hash.digest("hex");
    if (found === file.sum.hex) {
      await rename(partial, target);
      return fetched;
    }
    await rm(partial, { force: true });
    // What an earlier try left may have been damaged on the disk: once more, from the beginning.
    if (before === 0 || before > file.bytes)
      throw new ChecksumError(file.path, file.sum.algorithm, file.sum.hex, found);
  }
}

async function fill(asked: Download, partial: string): Promise<{ hash: Hash; bytes: number }> {
  const { hub, subject, file, address, onBytes } = asked;
  let hash = await hashOf(partial, file);
  let have = await sizeOf(partial);
  let fetched = 0;
  await using out = await openToAppend(partial, file);
  onBytes(have);
  for (let [broken, furthest] = [0, have]; have < file.bytes; ) {
    const answer = await hubFetch(hub, subject, address, have > 0 ? { range: `bytes=${have}-` } : {});
    if (answer.status !== 206 && have > 0) {
      // A server without ranges sends it all.
      await writing(file, () => out.truncate(0));
      hash = newHash(file);
      have = 0;
    } else if (have > 0 && !answer.headers.get("content-range")?.startsWith(`bytes ${have}-`)) {
      await answer.body?.cancel();
      throw wrong(file, `the answer to a request from byte ${have} on is not from there`);
    }
    let failure: unknown = new Error(`it ended before byte ${file.bytes}`);
    try {
      for await (const piece of readPieces(answer)) {
        if (have + piece.length > file.bytes) throw wrong(file, `more than the listed ${file.bytes} bytes come`);
        await writing(file, () => writeAll(out, piece));
        hash.update(piece);
        have += piece.length;
        fetched += piece.length;
        onBytes(have);
      }
    } catch (error) {
      if (error instanceof HubError) throw error;
      failure = error;
    }
    broken = have > furthest ? 0 : broken + 1;
    furthest = Math.max(furthest, have);
    if (have < file.bytes && broken >= BROKEN_IN_VAIN) throw unreachable(hub, subject, failure);
  }
  await writing(file, () => out.sync());
  return { hash, bytes: fetched };
}

async function* readPieces(answer: Response): AsyncGenerator<Uint8Array> {
  const reader = answer.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      let timer: NodeJS.Timeout | undefined;
      const silence = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`nothing came for ${SILENCE_MS / 1000} s`)), SILENCE_MS);
      });
      const { done, value } = await Promise.race([reader.read(), silence]).finally(() => clearTimeout(timer));
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

const newHash = ({ bytes, sum }: RemoteFile): Hash =>
  sum.algorithm === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${bytes}\0`);

async function hashOf(partial: string, file: RemoteFile): Promise<Hash> {
  const hash = newHash(file);
  if ((await sizeOf(partial)) > 0) for await (const piece of createReadStream(partial)) hash.update(piece);
  return hash;
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

const openToAppend = (partial: string, file: RemoteFile): Promise<FileHandle> =>
  writing(file, () => open(partial, "a"));

async function writeAll(out: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await out.write(bytes, done)).bytesWritten;
}

/** @throws HubError with a remedy where the disk takes no more. */
async function writing<T>({ path }: RemoteFile, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (error) {
    if (!hasCode(error, ["ENOSPC", "EDQUOT", "EFBIG"])) throw error;
    throw noRoom(path, error);
  }
}

const noRoom = (path: string, error: unknown): HubError =>
  new HubError(
    "no-room",
    `the disk is full at ${path} (${error instanceof Error ? error.message : error}): free some space and pull again, which goes on from here; or choose another folder with HF_HUB_CACHE`,
    { cause: error },
  );

const wrong = ({ path }: RemoteFile, what: string): HubError => new HubError("wrong", `${path}: ${what}`);
