import { createHash } from "node:crypto";
import { closeSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { extname, join, resolve } from "node:path";
import { CacheError } from "../cache/cache-error.js";
import { publish } from "../cache/compile-cache.js";
import { contentHash } from "../cache/content-hash.js";
import { openModelFile, readFully } from "../model-file.js";
import { forIgnoredMean } from "./centring.js";
import { openSae } from "./formats/index.js";
import type { SaeDescription } from "./sae.js";
import { buildSaeGraph, SAE_GRAPHS, type SaeGraph, type SaePlaces, weightsOf } from "./sae-graphs.js";
import { DECODER_NORMS, type SaePrecision } from "./sae-matrices.js";
import { writeSaeWeights } from "./sae-weights.js";
import { outlineOf, type SaeOutline, StoredSae, storedOutline } from "./stored-sae.js";

/** Raised when files in the cache would come out differently from the same SAE. */
const VERSION = 7;
const WEIGHTS_FILE = "weights.bin";
const OUTLINE_FILE = "sae.json";
/** Of the files that the formats of `openSae` consist of. */
const SUFFIXES = [".json", ".safetensors", ".pt", ".npz"];

/** `folder`: the one an SAE was published in. */
export type CompileSaeOptions = ({ readonly folder: string } | { readonly description: SaeDescription }) & {
  readonly precision: SaePrecision;
  readonly cacheRoot: string;
  /** Whether the model that it reads ignores its residuals' mean; default: no. */
  readonly ignoresMean?: boolean;
};

/** An SAE whose matrices lie in the cache, in the layout of its graphs. */
export interface CompiledSae {
  /** sha256 (hex) over its files, wherever they lie. */
  readonly content: string;
  readonly description: SaeOutline;
  readonly precision: SaePrecision;
  /** [dSae] lengths of the decoder rows. */
  readonly decoderNorms: Float32Array;
  /** The matrices are there in f32 whatever the precision: edits need exact columns and rows. */
  readonly weights: { readonly path: string; readonly bytes: number; readonly places: SaePlaces };
  /** With the names of the weights that each needs. */
  readonly graphs: Readonly<Record<SaeGraph, { readonly path: string; readonly weights: readonly string[] }>>;
}

/**
 * Makes sure that an SAE's weights and graphs are in the cache; only where they are not, the SAE is read and written.
 * @throws ModelFormatError as `openSae`, or naming a tensor that holds NaN or infinities; CacheError where the cache cannot
 * be used.
 */
export async function compileSae({
  precision,
  cacheRoot,
  ignoresMean = false,
  ...source
}: CompileSaeOptions): Promise<CompiledSae> {
  const { path, content, place } =
    "folder" in source ? await hashOfFolder(cacheRoot, resolve(source.folder)) : hashOf(source.description);
  const key = `sae-${place.slice(0, 24)}-${precision}${ignoresMean ? "-centred" : ""}-v${VERSION}`;
  const entry = await publish(cacheRoot, { key, model: path, precision }, async (folder) => {
    const description = "folder" in source ? await openSae(path) : source.description;
    write(folder, ignoresMean ? forIgnoredMean(description) : description, precision);
  });
  return { content, ...open(entry, precision) };
}

interface SaeHashes {
  readonly path: string;
  readonly content: string;
  /** Of the content and of where it lies: some formats say by the path what was tapped. */
  readonly place: string;
}

async function hashOfFolder(cacheRoot: string, path: string): Promise<SaeHashes> {
  const files = filesOf(path);
  if (files.length === 0) await openSae(path); // throws: it says what is missing
  const content = await contentHash(cacheRoot, files);
  return { path, content, place: sha256(JSON.stringify([files, content])) };
}

function filesOf(folder: string): string[] {
  try {
    const names = readdirSync(folder).filter((name) => SUFFIXES.includes(extname(name)));
    return names.sort().map((name) => join(folder, name));
  } catch {
    return [];
  }
}

function hashOf({ wEnc, wDec, wSkip: _, ...outline }: SaeDescription): SaeHashes {
  const hash = createHash("sha256").update(JSON.stringify(outline));
  for (const { buffer, byteOffset, byteLength } of [wEnc, wDec])
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  const content = hash.digest("hex");
  return { path: outline.file, content, place: content };
}

function write(folder: string, sae: SaeDescription, precision: SaePrecision): void {
  const { wEnc: _, wDec: __, wSkip: ___, ...outline } = sae;
  const { places, bytes } = writeSaeWeights(join(folder, WEIGHTS_FILE), sae, precision);
  for (const which of SAE_GRAPHS)
    writeFileSync(graphPath(folder, which), buildSaeGraph(which, sae, precision, places, WEIGHTS_FILE));
  const stored: StoredSae = { ...storedOutline(outline), bytes, places: Object.fromEntries(places) };
  writeFileSync(join(folder, OUTLINE_FILE), JSON.stringify(stored));
}

function open(entry: string, precision: SaePrecision): Omit<CompiledSae, "content"> {
  const stored = readStored(join(entry, OUTLINE_FILE));
  const places = new Map(Object.entries(stored.places));
  const path = join(entry, WEIGHTS_FILE);
  const { fd } = openModelFile(path);
  try {
    const vector = (name: string): Float32Array => {
      const place = places.get(name);
      if (place === undefined) throw damaged(entry);
      const values = new Float32Array(place.bytes / Float32Array.BYTES_PER_ELEMENT);
      readFully(fd, path, new Uint8Array(values.buffer), place.offset);
      return values;
    };
    const description = outlineOf(stored, vector);
    const graph = (which: SaeGraph) => ({
      path: graphPath(entry, which),
      weights: weightsOf(which, precision, description),
    });
    return {
      description,
      precision,
      decoderNorms: vector(DECODER_NORMS),
      weights: { path, bytes: stored.bytes, places },
      graphs: {
        encode: graph("encode"),
        sum: graph("sum"),
        decode: graph("decode"),
        compare: graph("compare"),
        "read-native": graph("read-native"),
        "read-top-afa": graph("read-top-afa"),
        "read-top-k": graph("read-top-k"),
      },
    };
  } finally {
    closeSync(fd);
  }
}

function readStored(path: string): StoredSae {
  try {
    return StoredSae.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    throw damaged(path);
  }
}

const damaged = (path: string): CacheError =>
  new CacheError(`${path} is damaged: remove its folder, it will be made again.`);

const graphPath = (folder: string, which: SaeGraph): string => join(folder, `${which}.onnx`);

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
