import { compileModel } from "../../models/compile.js";
import type { LlamaSizes } from "../models/random-model.js";
import { benchFolder, SMOLLM2 } from "./bench-model.js";
import { memory } from "./memory.js";
import { randomGguf } from "./random-gguf.js";
import { type Figure, report } from "./report.js";
import { complete, spawnServer } from "./server-process.js";

/**
 * Memory of a server (anonymous and mapped, RssAnon + RssFile) while it loads a compiled model, and while it serves a text
 * that has filled the window, beside the bytes of the weights as they are served and of the keys and values.
 */
const WINDOW = 1024;
const SINKS = 10;
/** What the goal allows beyond 1.3 times the weights, and the cache. */
const REST = 150e6;

/** TinyLlama's: 22 layers, d 2048, 32 query and 4 key-value heads of 64, feed-forward 5632, vocabulary 32000, tied here. */
const TINY_LLAMA: LlamaSizes = {
  layers: 22,
  hidden: 2048,
  heads: 32,
  kvHeads: 4,
  headDim: 64,
  intermediate: 5632,
  vocab: 32_000,
};

const figures: Figure[] = [];
await measure("SmolLM2-135M shape", SMOLLM2);
await measure("1.1B shape", TINY_LLAMA);
report("memory: random weights, Q4_1 layers, Q8_0 embedding and head, window 1024", figures, [
  "goal: 1.3 x weights as served + keys and values + 150 MB",
]);

async function measure(name: string, sizes: LlamaSizes): Promise<void> {
  const path = randomGguf(sizes, { layers: "Q4_1", embedding: "Q8_0" });
  const cacheRoot = benchFolder("cache");
  const { weights } = await compileModel({ path, precision: "q4", cacheRoot });
  const cache = sizes.layers * sizes.kvHeads * sizes.headDim * 4 * 2 * (WINDOW + SINKS);
  const flags = ["--model", path, "--precision", "q4", "--window", String(WINDOW), "--cache-dir", cacheRoot];
  const { child, url } = spawnServer(flags);
  let peak = { rss: 0, anonymous: 0, file: 0 };
  const watch = () => {
    const now = memory(child.pid ?? 0);
    if (now.anonymous + now.file > peak.anonymous + peak.file) peak = now;
  };
  const watching = setInterval(watch, 2);
  try {
    const at = await url;
    add(name, "loading", peak, weights.bytes, 0);
    await complete(
      at,
      Array.from({ length: WINDOW + 2 * SINKS }, (_, i) => 257 + i),
      32,
    );
    add(name, "serving, at most", peak, weights.bytes, cache);
  } finally {
    clearInterval(watching);
    child.kill();
  }
}

function add(name: string, phase: string, found: ReturnType<typeof memory>, weights: number, cache: number): void {
  const used = found.anonymous + found.file;
  const allowed = 1.3 * weights + cache + REST;
  figures.push({
    name: `${name}: ${phase}`,
    value: used / 1e6,
    unit: "MB",
    beside: `${mb(found.anonymous)} anonymous, ${mb(found.file)} files; weights ${mb(weights)}, cache ${mb(cache)}, goal ${mb(allowed)}`,
    met: used <= allowed,
  });
}

function mb(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
