import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join, resolve } from "node:path";
import { z } from "zod";
import { removeEntry } from "../../models/cache/cache-entry.js";
import { CacheError } from "../../models/cache/cache-error.js";
import { publish } from "../../models/cache/compile-cache.js";
import type { AskedPrecision, Machine } from "../../models/weights/block-format.js";
import { foldedRows } from "../../models/weights/quantise-channels.js";
import { SetupError } from "../contract/errors.js";
import { type Threads, theEnvironment } from "../ort/environment.js";
import { VERSION as LIBRARY } from "../ort/library.js";
import { MadeUpProducts } from "./made-up-products.js";

/** Raised when products run otherwise, so that they are measured anew. */
const VERSION = 2;
const FILE = "eight-bits.json";

/** What a processor does with products of 8 bits. */
export const EightBits = z.object({
  /** Whether sums of integers are right. Kernels for AVX2 without VNNI add pairs of products in 16 bits, which saturate. */
  exact: z.boolean(),
  /** How many times as fast integers are as blocks, for so many rows. */
  ratios: z.array(z.object({ rows: z.number(), ratio: z.number() })),
});
export type EightBits = z.infer<typeof EightBits>;

const ROWS = [1, 16, 64];
const RUNS = 5;
/** Both forms run in turns, this often. The best of each make the ratio. */
const ROUNDS = 4;
/** Matrices of some 25 MB in each form: two forms in turns are read from memory, not from the processor's caches. */
const SIZES = [...new Array<number[]>(8).fill([768, 2048]).flat(), 768];
/** How much slower one text alone may become for the sake of many. */
const LEAST_ALONE = 0.8;

/**
 * The form of 8 bits for this processor: integers where they are exact and faster over one row, a few and a chunk of a prompt,
 * by the geometric mean.
 */
export function formOf({ exact, ratios }: EightBits): "int8" | "q8-block" {
  const mean = Math.exp(ratios.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / ratios.length);
  const alone = ratios.find(({ rows }) => rows === 1)?.ratio ?? 0;
  return exact && mean > 1 && alone >= LEAST_ALONE ? "int8" : "q8-block";
}

/**
 * Tries products of 8 bits on this processor, once for each that a cache folder has seen.
 * @throws CacheError when the result cannot be kept.
 */
export async function eightBitsHere(cacheRoot: string, threads: Threads): Promise<EightBits> {
  const processor = processorName();
  const hash = createHash("sha256").update(`${processor}\n${LIBRARY}`).digest("hex").slice(0, 24);
  const [model = ""] = processor.split("\n");
  const item = { key: `${hash}-eight-bits-v${VERSION}`, model: `products on ${model}`, precision: "q8" };
  const open = () =>
    publish(cacheRoot, item, (to) => writeFileSync(join(to, FILE), JSON.stringify(tryEightBits(threads), null, 1)));
  const known = readEightBits(await open());
  if (known !== null) return known;
  removeEntry(resolve(cacheRoot), item.key);
  const found = readEightBits(await open());
  if (found === null)
    throw new CacheError(
      `The cache folder ${cacheRoot} does not keep what is written there: choose another one with LAMBDATAP_CACHE.`,
    );
  return found;
}

/** The result that an entry holds; null where its file was damaged. */
function readEightBits(entry: string): EightBits | null {
  try {
    return EightBits.parse(JSON.parse(readFileSync(join(entry, FILE), "utf8")));
  } catch {
    return null;
  }
}

/**
 * The form that a model runs in which is asked for in so many bits; undefined: it asks for none of these.
 * @throws SetupError where integers are asked for and this processor gets them wrong.
 */
export async function formOfEightBits(
  asked: AskedPrecision,
  cacheRoot: string,
  threads: Threads,
): Promise<Machine["eightBits"]> {
  if (asked !== "q8" && asked !== "int8") return undefined;
  const found = await eightBitsHere(cacheRoot, threads);
  if (asked === "int8" && !found.exact)
    throw new SetupError(
      "int8 is not exact on this processor, whose sums of products of 8 bits saturate: take --precision q8-block.",
    );
  return formOf(found);
}

/** @param threads of the process, which its first session fixes; the products themselves run on one */
function tryEightBits(threads: Threads): EightBits {
  theEnvironment(threads);
  const exact = integersAreExact();
  return { exact, ratios: exact ? measuredRatios() : [] };
}

/** Tries the largest bytes with codes that add up as far as they can in either direction. */
function integersAreExact(): boolean {
  const [inputs, outputs] = [256, 48];
  const code = (i: number, width: number) => ((i % width) % 2 === 0 ? 127 : -127);
  using products = new MadeUpProducts("int8", [inputs, outputs], code);
  using unit = new MadeUpProducts("int8", [1, 2], (i) => (i % 2 === 0 ? 1 : -1));
  // A row [1] of one byte 255 and one code 1: 255 times both scales.
  const [one = 0] = unit.run(Float32Array.of(1));
  return ROWS.every((rows) => {
    // All 1: bytes of 255 and a zero point of 0. All -1: bytes of 0, and behind them the zero point 255.
    const x = Float32Array.from({ length: rows * inputs }, (_, i) => (Math.floor(i / inputs) % 2 === 0 ? 1 : -1));
    return products.run(x).every((value, i) => {
      const sum = Math.floor(i / outputs) % 2 === 0 ? inputs : foldedRows(inputs);
      return Math.abs(value / (one * 127 * sum) - (i % 2 === 0 ? 1 : -1)) < 1e-6;
    });
  });
}

function measuredRatios(): EightBits["ratios"] {
  let state = 1;
  const code = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >> 24;
  };
  using integers = new MadeUpProducts("int8", SIZES, code);
  using blocks = new MadeUpProducts("q8-block", SIZES, code);
  return ROWS.map((rows) => {
    const x = Float32Array.from({ length: rows * (SIZES[0] ?? 0) }, () => code() / 128);
    const best = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (let round = 0; round < ROUNDS; round++)
      for (const [i, form] of [integers, blocks].entries())
        best[i] = Math.min(best[i] ?? 0, form.milliseconds(x, rows === 1 ? RUNS : 2));
    return { rows, ratio: (best[1] ?? 0) / (best[0] ?? 1) };
  });
}

/** Its name, and what it can do where the system says it: names of virtual processors say little. */
function processorName(): string {
  const name = cpus()[0]?.model.trim() ?? "a processor";
  try {
    const flags = /^flags\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
    return `${name}\n${flags}`;
  } catch {
    return name;
  }
}
