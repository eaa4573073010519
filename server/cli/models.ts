import { type CacheEntry, filesBelow, listEntries } from "../../models/cache/cache-entry.js";
import { cacheRoot } from "../../models/cache/compile-cache.js";
import { cachedModels } from "../../models/hub/cached-models.js";
import { hubCache } from "../../models/hub/hub-cache.js";
import type { ModelsOptions } from "./options.js";
import { size } from "./pull-progress.js";
import { embeddedModel } from "./start-engine.js";

/** A model that can be served without a network. */
interface ModelHere {
  /** What --model takes; the embedded model is there without it. */
  readonly name: string;
  /** Branches and tags, or the beginning of the commit; null for the embedded model. */
  readonly revision: string | null;
  readonly bytes: number;
  readonly format: "safetensors" | "gguf";
  /** Precisions in which it is in the cache of compiled models. */
  readonly compiled: readonly string[];
  readonly path: string;
}

/** Lists the embedded model and those in Hugging Face's cache, a line each. */
export async function models(options: ModelsOptions): Promise<number> {
  const entries = listEntries(options.cacheDir ?? cacheRoot(process.env));
  const cache = hubCache(process.env);
  const here = [embedded(entries), ...inCache(cache, entries)];
  const wide = (cells: readonly string[]) => Math.max(...cells.map((cell) => cell.length));
  const [names, revisions] = [wide(here.map(({ name }) => name)), wide(here.map(({ revision }) => revision ?? "-"))];
  for (const model of here) {
    const { name, revision, bytes, format, compiled } = model;
    const line = [
      name.padEnd(names),
      (revision ?? "-").padEnd(revisions),
      size(bytes).padStart(9),
      format.padEnd("safetensors".length),
      compiled.length > 0 ? `compiled (${compiled.join(", ")})` : "not compiled",
    ];
    process.stdout.write(options.json ? `${JSON.stringify(model)}\n` : `${line.join("  ")}\n`);
  }
  if (!options.json) process.stderr.write(`pulled models are in ${cache}\n`);
  return 0;
}

function embedded(entries: readonly CacheEntry[]): ModelHere {
  const path = embeddedModel();
  const weights = filesBelow(path).filter(({ name }) => !name.includes("/"));
  const bytes = weights.reduce((sum, file) => sum + file.bytes, 0);
  return { name: "default", revision: null, bytes, format: "safetensors", compiled: compiledOf(path, entries), path };
}

function inCache(cache: string, entries: readonly CacheEntry[]): ModelHere[] {
  const found = cachedModels(cache);
  return found.map(({ repository, commit, refs, file, bytes, format, path }) => {
    const alone = found.filter((other) => other.repository === repository && other.commit === commit).length === 1;
    const at = refs.includes("main") ? "" : `@${refs[0] ?? commit}`;
    return {
      name: `${repository}${file === null || alone ? "" : `/${file}`}${at}`,
      revision: refs.length > 0 ? refs.join(", ") : commit.slice(0, 12),
      bytes,
      format,
      compiled: compiledOf(path, entries),
      path,
    };
  });
}

/** Entries say the path of what was compiled. */
const compiledOf = (path: string, entries: readonly CacheEntry[]): string[] => [
  ...new Set(entries.filter(({ model }) => model === path).map(({ precision }) => precision)),
];
