import { mkdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { temporaryName } from "../cache/cache-owner.js";
import { isCommit, isSafePath } from "./reference.js";

/** Process environment, or what stands for it. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Where Hugging Face's tools keep what they download: HF_HUB_CACHE, or `hub` in HF_HOME, or in `huggingface` of the cache
 * folder (XDG_CACHE_HOME, ~/.cache). It need not exist. huggingface_hub, "Environment variables".
 */
export function hubCache(env: Environment): string {
  const given = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE;
  if (given) return resolve(expandHome(given, env));
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homeOf(env), ".cache"), "huggingface");
  return resolve(expandHome(home, env), "hub");
}

const homeOf = (env: Environment): string => env.HOME || homedir();
const expandHome = (path: string, env: Environment): string => path.replace(/^~(?=[/\\]|$)/, () => homeOf(env));

/**
 * The folder of a repository: `blobs` holds files under their checksums, `snapshots/<commit>` links to them under their
 * names, `refs/<branch or tag>` holds the commit that it stood for. huggingface_hub, "Understand caching".
 */
export const repositoryFolder = (cache: string, repository: string): string =>
  join(cache, `models--${repository.replace("/", "--")}`);

/** A revision of a repository on the disk. */
export interface Snapshot {
  readonly commit: string;
  /** Absolute. */
  readonly path: string;
}

/** The snapshot that a revision names (null: main); null where it is not in the cache. */
export function findSnapshot(cache: string, repository: string, revision: string | null): Snapshot | null {
  const folder = repositoryFolder(cache, repository);
  const asked = revision ?? "main";
  if (!isSafePath(asked)) return null;
  const commit = isCommit(asked) ? asked : readRef(folder, asked);
  if (commit === null) return null;
  const path = join(folder, "snapshots", commit);
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ? { commit, path } : null;
}

/** The commit that a branch or tag stood for when it was last asked for; null where it never was. */
export function readRef(folder: string, name: string): string | null {
  try {
    const commit = readFileSync(join(folder, "refs", name), "utf8").trim();
    return isCommit(commit) ? commit : null;
  } catch {
    return null;
  }
}

/** Notes what a branch or tag stands for, in one step. */
export function writeRef(folder: string, name: string, commit: string): void {
  const path = join(folder, "refs", name);
  mkdirSync(dirname(path), { recursive: true });
  const temporary = join(dirname(path), temporaryName());
  writeFileSync(temporary, commit, { flush: true });
  renameSync(temporary, path);
}

/** Shows a blob under its name in a snapshot, in one step: a link, or a copy where the system makes no links. */
export async function linkBlob(folder: string, blob: string, commit: string, name: string): Promise<void> {
  const path = join(folder, "snapshots", commit, name);
  const blobPath = join(folder, "blobs", blob);
  mkdirSync(dirname(path), { recursive: true });
  const temporary = join(dirname(path), temporaryName());
  try {
    try {
      symlinkSync(relative(dirname(path), blobPath), temporary);
    } catch {
      await copyFile(blobPath, temporary);
    }
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { force: true });
  }
}
