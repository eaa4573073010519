import { mkdirSync, readFileSync, statfsSync, statSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { acquire, release } from "../cache/cache-lock.js";
import { temporaryName } from "../cache/cache-owner.js";
import { cachedModels } from "./cached-models.js";
import { chooseFiles } from "./choose-files.js";
import { download, partialOf } from "./download.js";
import { hubOf, type Subject } from "./hub.js";
import { type Environment, findSnapshot, hubCache, linkBlob, repositoryFolder, writeRef } from "./hub-cache.js";
import { HubError } from "./hub-error.js";
import { hasCode } from "./hub-fetch.js";
import { type HubReference, isCommit, isSafePath } from "./reference.js";
import { type RemoteFile, readRepository } from "./repository.js";

/** How often a process that downloads says that it is alive, ms: others wait for it. */
const HEARTBEAT_MS = 1_000;
const LOCK = "lambdatap-pull";

/** What is told while files come. */
export interface PullObserver {
  /** All files of the model as far as they are known, before the first comes. */
  readonly onFiles?: (files: readonly RemoteFile[]) => void;
  /** Bytes of a file that are there; at first those of an earlier try. */
  readonly onBytes?: (file: RemoteFile, bytes: number) => void;
  /** A file is whole and right. `fetched`: bytes that came over the network for it. */
  readonly onDone?: (file: RemoteFile, fetched: number) => void;
  /** A pause before something is asked again. */
  readonly onWait?: (sentence: string) => void;
}

export interface Pulled {
  /** The folder of the snapshot. */
  readonly path: string;
  readonly commit: string;
  readonly files: readonly RemoteFile[];
  /** Bytes of files that came over the network. */
  readonly fetched: number;
}

/**
 * Brings a model of a hub into Hugging Face's cache on this disk. Files appear in its snapshot when all of them are there
 * and their checksums are right, so that a model that was cut off is never taken for a whole one; what has come of a file
 * is kept for the next try. Of several processes that pull one repository, one works and the others wait for it.
 * @param pattern which GGUF file, where there are several; see `chooseFiles`
 * @throws HubError or ChecksumError with what to do.
 */
export async function pull(
  { repository, revision, file }: HubReference,
  pattern: string | null,
  env: Environment,
  observer: PullObserver = {},
): Promise<Pulled> {
  const hub = hubOf(env, observer.onWait);
  const subject = { repository, revision: revision ?? "main" };
  const cache = hubCache(env);
  if (env.HF_HUB_OFFLINE && env.HF_HUB_OFFLINE !== "0")
    throw new HubError("unreachable", `HF_HUB_OFFLINE is set, so nothing is fetched${offline(cache, subject)}`);
  try {
    const remote = await readRepository(hub, subject);
    const { files, index } = chooseFiles(repository, remote.files, file ?? pattern);
    return await locked(cache, repository, async (folder) => {
      let fetched = 0;
      const get = async (wanted: RemoteFile): Promise<void> => {
        const target = join(folder, "blobs", wanted.sum.hex);
        if (statSync(target, { throwIfNoEntry: false })?.size !== wanted.bytes) {
          const path = wanted.path.split("/").map(encodeURIComponent).join("/");
          const address = `${hub.endpoint}/${repository}/resolve/${remote.commit}/${path}`;
          const onBytes = (bytes: number) => observer.onBytes?.(wanted, bytes);
          const came = await download({ hub, subject, file: wanted, address, target, onBytes });
          fetched += came;
          observer.onDone?.(wanted, came);
        } else observer.onDone?.(wanted, 0);
      };
      checkRoom(folder, files);
      if (index !== null) await get(index);
      const shards = index === null ? [] : shardsOf(join(folder, "blobs", index.sum.hex), remote.files, subject);
      const all = [...files, ...shards];
      observer.onFiles?.(all);
      checkRoom(folder, all);
      for (const wanted of all) if (wanted !== index) await get(wanted);
      for (const { path, sum } of all) await linkBlob(folder, sum.hex, remote.commit, path);
      if (!isCommit(subject.revision)) writeRef(folder, subject.revision, remote.commit);
      return { path: join(folder, "snapshots", remote.commit), commit: remote.commit, files: all, fetched };
    });
  } catch (error) {
    if (error instanceof HubError && error.fault === "unreachable")
      throw new HubError(error.fault, error.message + offline(cache, subject), { cause: error });
    throw cacheRefusal(cache, error);
  }
}

/** The lock only saves work and keeps two processes from writing one file; it outlives nobody. */
async function locked<T>(cache: string, repository: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = repositoryFolder(cache, repository);
  const locks = join(cache, ".locks", `models--${repository.replace("/", "--")}`);
  const owner = temporaryName();
  mkdirSync(join(folder, "blobs"), { recursive: true });
  mkdirSync(locks, { recursive: true });
  await acquire(locks, LOCK, owner, () => false);
  const beat = setInterval(() => {
    try {
      utimesSync(join(locks, `${LOCK}.lock`), new Date(), new Date());
    } catch {}
  }, HEARTBEAT_MS);
  try {
    return await work(folder);
  } finally {
    clearInterval(beat);
    release(locks, LOCK, owner);
  }
}

const Index = z.object({ weight_map: z.record(z.string(), z.string()) });

function shardsOf(blob: string, files: readonly RemoteFile[], { repository }: Subject): RemoteFile[] {
  let shards: string[];
  try {
    shards = [...new Set(Object.values(Index.parse(JSON.parse(readFileSync(blob, "utf8"))).weight_map))].sort();
  } catch {
    throw new HubError("wrong", `model.safetensors.index.json of ${repository} is no index of shards`);
  }
  return shards.map((shard) => {
    const found = isSafePath(shard) && !shard.includes("/") ? files.find(({ path }) => path === shard) : undefined;
    if (found !== undefined && shard.endsWith(".safetensors")) return found;
    const what = `model.safetensors.index.json of ${repository} names ${JSON.stringify(shard)}`;
    throw new HubError("wrong", `${what}, which is no safetensors file of this repository`);
  });
}

/** Before hours of downloading, not after. */
function checkRoom(folder: string, files: readonly RemoteFile[]): void {
  const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  const missing = files.reduce((sum, { bytes, sum: { hex } }) => {
    const target = join(folder, "blobs", hex);
    return sum + (sizeOf(target) === bytes ? 0 : Math.max(0, bytes - sizeOf(partialOf(target))));
  }, 0);
  const { bavail, bsize } = statfsSync(folder);
  if (missing <= bavail * bsize) return;
  const [needed, free] = [missing, bavail * bsize].map((bytes) => (bytes / 1e9).toFixed(2));
  throw new HubError(
    "no-room",
    `${needed} GB are still to come, but the disk of ${folder} has ${free} GB free: make room, or choose another folder with HF_HUB_CACHE`,
  );
}

/** What can be used without a network, as the end of a sentence. */
function offline(cache: string, { repository, revision }: Subject): string {
  if (findSnapshot(cache, repository, revision) !== null)
    return `; ${repository} is in the cache, as it was when it was last pulled: --model ${repository} needs no network`;
  const names = [...new Set(cachedModels(cache).map((model) => model.repository))];
  if (names.length === 0) return `; there is no model in the cache ${cache}`;
  return `; without it there is: ${names.slice(0, 20).join(", ")}${names.length > 20 ? ", ... (lambdatap models)" : ""}`;
}

function cacheRefusal(cache: string, error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const remedy = hasCode(error, ["EACCES", "EPERM", "EROFS"])
    ? "cannot be written: give this user the right to"
    : hasCode(error, ["ENOTDIR", "EEXIST", "EISDIR"])
      ? "cannot be made, because a file is in its place: remove that"
      : hasCode(error, ["ENOSPC", "EDQUOT"])
        ? "is on a disk that is full: free some space"
        : null;
  if (remedy === null) return error;
  const sentence = `the cache folder ${cache} ${remedy}, or choose another with HF_HUB_CACHE (${error.message})`;
  return new HubError("no-room", sentence, { cause: error });
}
