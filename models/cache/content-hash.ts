import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join, resolve } from "node:path";
import { z } from "zod";
import { ModelFormatError } from "../errors.js";
import { temporaryName } from "./cache-owner.js";

const PIECE_BYTES = 2 ** 22;
/** A file written more recently than this may be written again without its times changing, ms. */
const SETTLED_MS = 2_000;

const Remembered = z.array(
  z.object({ path: z.string(), size: z.string(), modified: z.string(), changed: z.string(), sha256: z.string() }),
);
type Remembered = z.infer<typeof Remembered>[number];

/**
 * sha256 (hex) over the contents of files, in their order. Each file's own hash is remembered in `<root>/hashes.json` by
 * path, size and times (ns), so that the next start does not read it; a damaged or unwritable memory only costs time.
 * @throws ModelFormatError naming a file that cannot be read.
 */
export async function contentHash(root: string, files: readonly string[]): Promise<string> {
  const folder = resolve(root);
  const memory = join(folder, "hashes.json");
  const known = remembered(memory);
  const found: Remembered[] = [];
  const total = createHash("sha256");
  for (const file of files) {
    const { settled, ...entry } = await hashFile(resolve(file), known);
    if (settled) found.push(entry);
    total.update(entry.sha256);
  }
  if (found.some((entry) => !known.some((old) => isSame(old, entry)))) remember(folder, memory, found);
  return total.digest("hex");
}

async function hashFile(path: string, known: readonly Remembered[]): Promise<Remembered & { settled: boolean }> {
  try {
    await using file = await open(path, "r");
    const before = await stampOf(path, file);
    const old = known.find((entry) => isSame(entry, before));
    if (old) return { ...old, settled: true };
    const hash = createHash("sha256");
    const piece = new Uint8Array(PIECE_BYTES);
    for (let read = 1; read > 0; ) {
      read = (await file.read(piece, 0, piece.length, null)).bytesRead;
      hash.update(piece.subarray(0, read));
    }
    const now = BigInt(Date.now()) * 1_000_000n;
    const settled = isSame(before, await stampOf(path, file)) && now - BigInt(before.changed) > SETTLED_MS * 1e6;
    return { ...before, sha256: hash.digest("hex"), settled };
  } catch (error) {
    throw new ModelFormatError(path, `the file cannot be read: ${error instanceof Error ? error.message : error}`);
  }
}

async function stampOf(path: string, file: Awaited<ReturnType<typeof open>>) {
  const { size, mtimeNs, ctimeNs } = await file.stat({ bigint: true });
  return { path, size: String(size), modified: String(mtimeNs), changed: String(ctimeNs) };
}

const isSame = (a: Omit<Remembered, "sha256">, b: Omit<Remembered, "sha256">): boolean =>
  a.path === b.path && a.size === b.size && a.modified === b.modified && a.changed === b.changed;

function remembered(memory: string): Remembered[] {
  try {
    return Remembered.parse(JSON.parse(readFileSync(memory, "utf8")));
  } catch {
    return [];
  }
}

function remember(root: string, memory: string, found: readonly Remembered[]): void {
  const temporary = join(root, temporaryName());
  try {
    mkdirSync(root, { recursive: true });
    const others = remembered(memory).filter(
      ({ path }) => existsSync(path) && !found.some((entry) => entry.path === path),
    );
    writeFileSync(temporary, JSON.stringify([...others, ...found], null, 1));
    renameSync(temporary, memory);
  } catch {
    try {
      rmSync(temporary, { force: true });
    } catch {}
  }
}
