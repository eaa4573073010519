import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { describe, expect, it } from "vitest";
import { describeModel } from "../../../models/architectures/index.js";
import { ModelFormatError } from "../../../models/errors.js";
import { openModelSource } from "../../../models/model-source.js";
import { openTokenizer } from "../../../models/tokenizer/tokenizer.js";
import { temporaryFolder } from "../weights/write-safetensors.js";
import { goldenGguf } from "./golden-gguf.js";

const RUNS = 3000;
const MAX_SECONDS = 1;
const MAX_MEGABYTES = 64;

/** Reads every part of a model but the numbers of its large matrices. */
async function readAll(path: string): Promise<void> {
  const source = openModelSource(path);
  const { shape } = describeModel(source.config());
  source.generation();
  source.chatTemplate();
  using weights = source.openCheckpoint();
  for (const name of weights.names()) weights.readF32(name, 0, 1);
  await (await openTokenizer(path, shape.vocabSize))?.encode("the sea, the salt; 12");
}

describe("a GGUF file with flipped bits in its header", () => {
  it(`loads or is refused, ${RUNS} times, quickly and on constant memory`, async () => {
    const sound = readFileSync(goldenGguf("hostile/ok.gguf"));
    const headerBytes = 2688; // up to the tensors' data
    const path = join(temporaryFolder(), "flipped.gguf");
    const random = xoroshiro128plus(20250101);
    const below = (count: number) => uniformInt(random, 0, count - 1);
    let [loaded, refused, slowest, before] = [0, 0, 0, 0];
    for (let run = 0; run < RUNS; run++) {
      const bytes = Buffer.from(sound);
      for (let flips = 1 + below(3); flips > 0; flips--) {
        const at = below(headerBytes);
        bytes[at] = below(2) === 0 ? (bytes[at] ?? 0) ^ (1 << below(8)) : below(256);
      }
      writeFileSync(path, bytes);
      const start = performance.now();
      const error: unknown = await readAll(path).catch((reason: unknown) => reason);
      slowest = Math.max(slowest, performance.now() - start);
      if (error === undefined) loaded++;
      else if (error instanceof ModelFormatError) refused++;
      else throw new Error(`run ${run}`, { cause: error });
      if (run === RUNS / 4) before = process.memoryUsage().rss;
    }
    expect(slowest / 1000).toBeLessThan(MAX_SECONDS);
    expect((process.memoryUsage().rss - before) / 2 ** 20).toBeLessThan(MAX_MEGABYTES);
    expect(loaded).toBeGreaterThan(RUNS / 100);
    expect(refused).toBeGreaterThan(RUNS / 100);
  });
});
