import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { listEntries, prune } from "../../models/cache/cache-entry.js";
import { CacheError } from "../../models/cache/cache-error.js";
import { type CompiledModel, compileModel } from "../../models/compile.js";
import type { AskedPrecision } from "../../models/weights/block-format.js";
import { maxDifference } from "../golden-tensors.js";
import { writeRandomLlama } from "./random-model.js";
import { runTokens } from "./run-tokens.js";
import { temporaryFolder } from "./weights/write-safetensors.js";

const SMALL = { layers: 2, hidden: 128, heads: 4, kvHeads: 2, headDim: 32, intermediate: 384, vocab: 300 };

/** A disk of its own needs rights that not every machine gives. */
const canMount = spawnSync("unshare", ["-rm", "sh", "-c", "mount -t tmpfs none /mnt"]).status === 0;
const CHILD = fileURLToPath(new URL("./compile-child.js", import.meta.url));

/** A model folder and an empty cache, both readable by everyone. */
function modelAndCache(): { folder: string; cacheRoot: string } {
  const [folder, cacheRoot] = [temporaryFolder(), temporaryFolder()];
  for (const each of [folder, cacheRoot]) chmodSync(each, 0o755);
  writeRandomLlama(folder, SMALL);
  return { folder, cacheRoot };
}

interface Compilation {
  readonly model: CompiledModel;
  readonly logits: Float32Array;
  /** Shares of progress that were reported. */
  readonly shares: readonly number[];
}

async function compileAndRun(
  folder: string,
  cacheRoot: string,
  precision: AskedPrecision = "f32",
): Promise<Compilation> {
  const shares: number[] = [];
  const model = await compileModel({ path: folder, cacheRoot, precision, onProgress: (share) => shares.push(share) });
  return { model, logits: runTokens(model), shares };
}

function startChild(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [CHILD, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  return child;
}

const resultOf = async (child: Pick<ChildProcess, "stdout">) =>
  JSON.parse(child.stdout ? await text(child.stdout) : "null");

describe("a model that is compiled", () => {
  it("knows the tokens that its tokenizer puts around every text, or is refused", async () => {
    const { folder, cacheRoot } = modelAndCache();
    const post_processor = { type: "RobertaProcessing", cls: ["<s>", 299], sep: ["</s>", 300] };
    writeFileSync(join(folder, "tokenizer.json"), JSON.stringify({ post_processor }));
    const compiled = compileModel({ path: folder, cacheRoot, precision: "f32" });
    await expect(compiled).rejects.toThrow(/puts token 300 around every text, but the model knows only ids below 300/);
  });

  it("is found the second time: not one weight is read", async () => {
    const { folder, cacheRoot } = modelAndCache();
    const first = await compileAndRun(folder, cacheRoot);
    expect(first.shares.at(-1)).toBe(1);
    expect(first.shares).toEqual([...first.shares].sort((a, b) => a - b));
    const files = (path: string) => readdirSync(path, { recursive: true }).map(String).sort();
    const before = files(cacheRoot);
    const second = await compileAndRun(folder, cacheRoot);
    expect(second.shares).toEqual([]);
    expect(second.model.weights.path).toBe(first.model.weights.path);
    expect(maxDifference(second.logits, first.logits)).toBe(0);
    expect(files(cacheRoot)).toEqual(before);
  });

  it("is compiled once for each precision", async () => {
    const { folder, cacheRoot } = modelAndCache();
    const [exact, rounded] = [
      await compileAndRun(folder, cacheRoot, "f32"),
      await compileAndRun(folder, cacheRoot, "q8"),
    ];
    expect(
      listEntries(cacheRoot)
        .map(({ precision }) => precision)
        .sort(),
    ).toEqual(["f32", "q8-block"]);
    expect(rounded.model.weights.bytes).toBeLessThan(exact.model.weights.bytes / 2);
    expect(maxDifference(exact.logits, rounded.logits)).toBeLessThan(0.2);
    expect(maxDifference(exact.logits, rounded.logits)).toBeGreaterThan(0);
  });

  it("is compiled anew when its weights change under the same name, size and time", async () => {
    const { folder, cacheRoot } = modelAndCache();
    const weights = join(folder, "model.safetensors");
    const { size, mtime } = statSync(weights);
    const first = await compileAndRun(folder, cacheRoot);
    writeRandomLlama(folder, SMALL, { seed: 2 });
    utimesSync(weights, mtime, mtime);
    expect(statSync(weights)).toMatchObject({ size, mtime });
    const second = await compileAndRun(folder, cacheRoot);
    expect(second.shares.at(-1)).toBe(1);
    expect(maxDifference(second.logits, first.logits)).toBeGreaterThan(0.1);
    const other = await compileAndRun(folder, temporaryFolder());
    expect(maxDifference(second.logits, other.logits)).toBe(0);
  });

  it("follows its config where the weights stay as they are", async () => {
    const { folder, cacheRoot } = modelAndCache();
    const first = await compileAndRun(folder, cacheRoot);
    const config = join(folder, "config.json");
    writeFileSync(config, readFileSync(config, "utf8").replace("{", '{"rope_theta":100,'));
    const second = await compileAndRun(folder, cacheRoot);
    expect(maxDifference(second.logits, first.logits)).toBeGreaterThan(0.1);
  });

  it("serves right logits from two processes that compile it at once, and is compiled once", async () => {
    const { folder, cacheRoot } = modelAndCache();
    const start = () => startChild(folder, cacheRoot, "slowly");
    const results = await Promise.all([start(), start()].map(resultOf));
    const { logits } = await compileAndRun(folder, temporaryFolder());
    for (const result of results) expect(maxDifference(result.logits, logits)).toBe(0);
    expect(results.filter(({ compiled }) => compiled)).toHaveLength(1);
    expect(listEntries(cacheRoot)).toHaveLength(1);
  });

  it("is compiled from the start by the next process when one is killed midway", async () => {
    const { folder, cacheRoot } = modelAndCache();
    const child = startChild(folder, cacheRoot, "stop midway");
    if (child.stdout) await once(child.stdout, "data");
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(listEntries(cacheRoot)).toEqual([]);
    const next = await resultOf(startChild(folder, cacheRoot));
    const { logits } = await compileAndRun(folder, temporaryFolder());
    expect(next.compiled).toBe(true);
    expect(maxDifference(next.logits, logits)).toBe(0);
    expect(readdirSync(cacheRoot).filter((name) => name.startsWith(".tmp-") || name.endsWith(".lock"))).toEqual([]);
  });

  it.skipIf(process.platform !== "linux")("is never held in memory, not even one matrix of it", async () => {
    const [folder, cacheRoot] = [temporaryFolder(), temporaryFolder()];
    writeRandomLlama(folder, {
      layers: 1,
      hidden: 512,
      heads: 16,
      kvHeads: 8,
      headDim: 32,
      intermediate: 1536,
      vocab: 40_000,
    });
    const matrix = 40_000 * 512 * 4;
    for (const precision of ["f32", "q8"]) {
      const { grown } = await resultOf(startChild(folder, cacheRoot, precision));
      expect(grown).toBeLessThan(matrix);
    }
  });

  it("gets a graph again that was cut, or whose folder was pruned under a running server", async () => {
    const { folder, cacheRoot } = modelAndCache();
    const { model, logits } = await compileAndRun(folder, cacheRoot);
    const { path } = model.decode({ sinks: 2 });
    truncateSync(path, 100);
    expect(maxDifference(runTokens(model), logits)).toBe(0);
    prune(cacheRoot, { all: true });
    expect(existsSync(path)).toBe(false);
    expect(model.decode({ sinks: 2 }).path).toBe(path);
    const again = await compileAndRun(folder, cacheRoot);
    expect(again.shares.at(-1)).toBe(1);
    expect(maxDifference(again.logits, logits)).toBe(0);
  });
});

describe("a cache folder that cannot be written is a sentence", () => {
  it("where a file is in its place", async () => {
    const { folder } = modelAndCache();
    const file = join(temporaryFolder(), "file");
    writeFileSync(file, "");
    const refused = compileAndRun(folder, file);
    await expect(refused).rejects.toThrow(CacheError);
    await expect(refused).rejects.toThrow(/^The cache folder .*file cannot be made, because a file is in its place/);
  });

  it.skipIf(process.platform === "win32")(
    "where this user may not write; what is in it already is served",
    async () => {
      const { folder, cacheRoot } = modelAndCache();
      const asNobody = (sinks: string) => resultOf(startChild(folder, cacheRoot, "as nobody", sinks));
      const sentence = {
        error: "CacheError",
        message: expect.stringMatching(/^The cache folder .* cannot be written: give this user/),
      };
      chmodSync(cacheRoot, 0o555);
      onTestFinished(() => chmodSync(cacheRoot, 0o755));
      expect(await asNobody("2")).toMatchObject(sentence);
      chmodSync(cacheRoot, 0o755);
      const { logits, model } = await compileAndRun(folder, cacheRoot);
      const entry = join(model.weights.path, "..");
      for (const each of [cacheRoot, entry]) chmodSync(each, 0o555);
      onTestFinished(() => chmodSync(entry, 0o755));
      const served = await asNobody("2");
      expect(served.compiled).toBe(false);
      expect(maxDifference(served.logits, logits)).toBe(0);
      // Another number of sinks needs graphs that are not there.
      expect(await asNobody("1")).toMatchObject(sentence);
    },
  );

  it.skipIf(process.platform === "win32")("where a file may not be that large, and nothing stays behind", async () => {
    const { folder, cacheRoot } = modelAndCache();
    const shell = spawn("sh", ["-c", 'ulimit -f 200; exec "$@"', "sh", process.execPath, CHILD, folder, cacheRoot]);
    const message = expect.stringMatching(/^The cache folder .* cannot hold a file this large: raise the limit/);
    expect(await resultOf(shell)).toMatchObject({ error: "CacheError", message });
    expect(readdirSync(cacheRoot).filter((name) => name !== "hashes.json")).toEqual([]);
  });

  it.skipIf(!canMount)("where the disk is full in the middle of it, and nothing stays behind", async () => {
    const { folder, cacheRoot } = modelAndCache();
    const script = 'mount -t tmpfs -o size=1m none "$0" && "$@"; ls -A "$0"';
    const shell = spawn("unshare", ["-rm", "sh", "-c", script, cacheRoot, process.execPath, CHILD, folder, cacheRoot]);
    const [result = "", ...left] = (await text(shell.stdout)).trim().split("\n");
    const message = expect.stringMatching(
      /^The cache folder .* is on a disk that is full: free some space \(lambdatap cache prune\)/,
    );
    expect(JSON.parse(result)).toMatchObject({ error: "CacheError", message });
    expect(left.filter((name) => name !== "hashes.json")).toEqual([]);
  });
});
