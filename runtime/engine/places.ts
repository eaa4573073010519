import { type KvType, kvBytes } from "../../models/keys-values/kv-format.js";
import type { ModelShape } from "../../models/model-shape.js";
import { LambdaCache, type LambdaGeometry } from "../cache/lambda-cache.js";
import { LARGEST_SNAPSHOT } from "../cache/snapshot.js";
import { SetupError } from "../contract/errors.js";

/** Rows that are in use at once where nobody says how many, if there is memory for them. */
const PARALLEL = 16;
/** Share of the memory beside the weights that rows in use may take unless somebody asks for more of them. */
const SHARE_IN_USE = 1 / 4;
/** Share of the host's memory that is left then, which parked rows may take. */
const SHARE_PARKED = 1 / 4;
/** Share of the same that is kept for prompts that begin alike, of all models of the machine together. */
const SHARE_OF_PREFIXES = 1 / 10;
/** Rows that are parked at once. */
const MOST_PARKED = 256;

export interface Places {
  /** Sequences that have a row at once. */
  readonly parallel: number;
  /** Sequences whose rows may be parked at once, in the host's memory. */
  readonly parking: number;
  /** Bytes of the host's memory for keys and values of prompts that others may begin like. */
  readonly prefixBytes: number;
}

export interface PlacesOptions {
  readonly shape: ModelShape;
  readonly geometry: LambdaGeometry;
  readonly kv: KvType;
  /** Of what the model runs on, of the host, and of the weights, bytes. */
  readonly memoryBytes: number;
  readonly hostBytes: number;
  readonly weightBytes: number;
  /** Rows that the user wants; undefined: as many as are worth it. */
  readonly asked: number | undefined;
  /** Bytes that the user wants for prompts that begin alike; undefined: as many as are left over. */
  readonly prefixBytes: number | undefined;
  /** Models that share the machine. */
  readonly models: number;
}

/** What texts have of the memory. @throws SetupError where the machine has none for as many, or as much, as is asked for. */
export function placesOf({ asked, memoryBytes, hostBytes, weightBytes, ...options }: PlacesOptions): Places {
  const row = rowBytes(options);
  if (asked !== undefined && weightBytes + asked * row > memoryBytes) {
    const most = Math.max(0, Math.floor((memoryBytes - weightBytes) / row));
    throw new SetupError(
      `--parallel ${asked} takes ${gigabytes(asked * row)} GB for keys and values (${megabytes(row)} MB for each text with a window of ${options.geometry.window}), and there is room for ${most} beside the model's weights in ${gigabytes(memoryBytes)} GB: choose fewer, or a smaller --window.`,
    );
  }
  const fitting = Math.floor((SHARE_IN_USE * (memoryBytes - weightBytes)) / row);
  const parallel = asked ?? Math.max(1, Math.min(PARALLEL, fitting));
  const left = hostBytes === memoryBytes ? hostBytes - weightBytes - parallel * row : hostBytes;
  const prefixBytes = prefixesOf(options, Math.max(0, left));
  // One array holds what is parked of a row.
  const parked = row > LARGEST_SNAPSHOT ? 0 : Math.floor((SHARE_PARKED * (left - prefixBytes)) / row);
  return { parallel, parking: Math.max(0, Math.min(MOST_PARKED, parked)), prefixBytes };
}

/** @param left of the host's memory beside weights and rows in use, bytes */
function prefixesOf(
  { prefixBytes: asked, models }: Pick<PlacesOptions, "prefixBytes" | "models">,
  left: number,
): number {
  if (asked !== undefined && asked > left) {
    const all = Math.round((asked * models) / 2 ** 20);
    const each = `${gigabytes(asked)} GB${models > 1 ? ` for each of ${models} models` : ""}`;
    throw new SetupError(
      `--prefix-mb ${all} takes ${each}, and this machine has ${gigabytes(left)} GB left for it beside weights and running texts: choose less, or 0.`,
    );
  }
  return asked ?? Math.floor((SHARE_OF_PREFIXES * left) / models);
}

/** Why no prompt is kept for others although memory is meant for it, a sentence; null: that is not so. @param block its tokens */
export function unkeptPrefixes(
  prefixBytes: number,
  block: number,
  { shape, kv }: Pick<PlacesOptions, "shape" | "kv">,
): string | null {
  const bytes = 2 * block * shape.layerGeometries.length * shape.kvHeads * kvBytes(kv, shape.headDim);
  if (prefixBytes === 0 || prefixBytes >= bytes) return null;
  return `Each prompt is read anew: ${megabytes(prefixBytes)} MB are there for keys and values of prompts (--prefix-mb), and ${block} tokens, the fewest that are kept, take ${megabytes(bytes)} MB.`;
}

/** Bytes of keys and values of one row whose window is full. */
function rowBytes({ shape, geometry, kv }: Pick<PlacesOptions, "shape" | "geometry" | "kv">): number {
  using cache = new LambdaCache(shape, geometry, kv);
  return cache.bytesFor(1, geometry.sinks + geometry.window);
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
const gigabytes = (bytes: number): string => (bytes / 1e9).toFixed(1);
