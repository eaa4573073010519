import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { listEntries, prune } from "../../../models/cache/cache-entry.js";
import { CacheError } from "../../../models/cache/cache-error.js";
import { temporaryName } from "../../../models/cache/cache-owner.js";
import { cacheRoot, publish } from "../../../models/cache/compile-cache.js";
import { ModelFormatError } from "../../../models/errors.js";
import { temporaryFolder } from "../weights/write-safetensors.js";

const CHILD = fileURLToPath(new URL("./cache-child.js", import.meta.url));
const item = (key: string) => ({ key, model: "a model", precision: "q8" });
const fill = (folder: string) => writeFileSync(join(folder, "weights"), "12345678");
const refill = () => Promise.reject(new Error("compiled again"));

function startChild(root: string, how: string, { log = "", limit = "" } = {}): ChildProcess {
  const node = [process.execPath, CHILD, root, "k", how, log];
  const command = limit ? ["sh", "-c", `${limit}; exec "$@"`, "sh", ...node] : node;
  const child = spawn(command[0] ?? "", command.slice(1), { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  return child;
}

const resultOf = async (child: ChildProcess): Promise<unknown> =>
  JSON.parse(child.stdout ? await text(child.stdout) : "null");

describe("a compiled model in the cache", () => {
  it("is filled once, whole, and then found", async () => {
    const root = join(temporaryFolder(), "not", "yet");
    const folder = await publish(root, item("k"), (temporary) => {
      expect(temporary).not.toBe(join(root, "k"));
      mkdirSync(join(temporary, "sub"));
      writeFileSync(join(temporary, "sub", "graph"), "123");
      fill(temporary);
      expect(listEntries(root)).toEqual([]);
      expect(existsSync(join(root, "k"))).toBe(false);
    });
    expect(folder).toBe(join(root, "k"));
    expect(readFileSync(join(folder, "sub", "graph"), "utf8")).toBe("123");
    expect(await publish(root, item("k"), refill)).toBe(folder);
    expect(readdirSync(root)).toEqual(["k"]);
    const manifestBytes = statSync(join(folder, "manifest.json")).size;
    expect(listEntries(root)).toMatchObject([
      { key: "k", model: "a model", precision: "q8", bytes: 11 + manifestBytes },
    ]);
  });

  it("is compiled once if two processes want it at once, and both get it", async () => {
    const [root, log] = [temporaryFolder(), join(temporaryFolder(), "log")];
    const children = [startChild(root, "slowly", { log }), startChild(root, "slowly", { log })];
    const results = await Promise.all(children.map(resultOf));
    expect(results).toEqual([{ folder: join(root, "k") }, { folder: join(root, "k") }]);
    expect(readFileSync(log, "utf8")).toBe("x");
    expect(readFileSync(join(root, "k", "weights"), "utf8")).toHaveLength(64);
    expect(readdirSync(root)).toEqual(["k"]);
  });

  it("is the winner's if two compile it nevertheless", async () => {
    const [root, other] = [temporaryFolder(), temporaryFolder()];
    await publish(other, item("k"), (folder) => writeFileSync(join(folder, "weights"), "winner"));
    await publish(root, item("k"), (folder) => {
      fill(folder);
      cpSync(join(other, "k"), join(root, "k"), { recursive: true });
    });
    expect(readFileSync(join(root, "k", "weights"), "utf8")).toBe("winner");
    expect(readdirSync(root)).toEqual(["k"]);
  });

  it("is not there when its process is killed midway; the next one does not wait and clears up", async () => {
    const root = temporaryFolder();
    const child = startChild(root, "until killed");
    if (child.stdout) await once(child.stdout, "data");
    expect(readdirSync(root).sort()).toEqual([expect.stringMatching(/^\.tmp-/), "k.lock"]);
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(listEntries(root)).toEqual([]);
    await publish(root, item("k"), fill);
    expect(readFileSync(join(root, "k", "weights"), "utf8")).toBe("12345678");
    expect(readdirSync(root)).toEqual(["k"]);
  });

  it("does not wait for a lock whose process id went to another process, nor for a thread or machine long silent", async () => {
    const start = /^(\.tmp-[0-9a-f]{8}-\d+-)\d+/;
    const reused = temporaryName().replace(start, "$11");
    const thread = temporaryName().replace(/-\d+-([0-9a-f]{12})$/, "-99-$1");
    const machine = temporaryName().replace(/^\.tmp-[0-9a-f]{8}/, ".tmp-00000000");
    for (const holder of [reused, thread, machine, "", "../../etc"]) {
      const root = temporaryFolder();
      writeFileSync(join(root, "k.lock"), holder);
      if (holder !== reused) utimesSync(join(root, "k.lock"), 0, 0);
      await publish(root, item("k"), fill);
      expect(readdirSync(root)).toEqual(["k"]);
    }
  });

  it("keeps what another machine may still be writing, and removes what it abandoned", async () => {
    const root = temporaryFolder();
    const other = (n: number) => temporaryName().replace(/^\.tmp-[0-9a-f]{8}/, `.tmp-0000000${n}`);
    const [busy, silent] = [other(1), other(2)];
    for (const name of [busy, silent]) mkdirSync(join(root, name));
    utimesSync(join(root, silent), 0, 0);
    writeFileSync(join(root, ".tmp-mine"), "");
    await publish(root, item("k"), fill);
    expect(readdirSync(root).sort()).toEqual([busy, ".tmp-mine", "k"].sort());
  });

  it("is compiled again if a file of it is missing or cut, or its manifest is damaged", async () => {
    const root = temporaryFolder();
    const weights = join(root, "k", "weights");
    for (const damage of [
      () => truncateSync(weights, 3),
      () => writeFileSync(join(root, "k", "manifest.json"), "{"),
      () => cpSync(join(root, "k"), join(root, "copy"), { recursive: true }),
    ]) {
      await publish(root, item("k"), fill);
      damage();
      await publish(root, item("k"), fill);
      expect(readFileSync(weights, "utf8")).toBe("12345678");
    }
    expect(listEntries(root).map(({ key }) => key)).toEqual(["k"]);
  });

  it("leaves nothing behind when compiling fails, and passes the reason on", async () => {
    const root = temporaryFolder();
    const reason = new ModelFormatError("model.safetensors", "is broken");
    const failing = publish(root, item("k"), (folder) => {
      fill(folder);
      throw reason;
    });
    await expect(failing).rejects.toBe(reason);
    expect(readdirSync(root)).toEqual([]);
    const unreadable = publish(root, item("k"), () => void readFileSync("/no/such/weights"));
    await expect(unreadable).rejects.toMatchObject({ code: "ENOENT", path: "/no/such/weights" });
  });

  it("has a key that cannot leave the folder", async () => {
    for (const key of ["", "..", ".tmp-x", "a/b", "a\\b", "a\0"])
      await expect(publish(temporaryFolder(), item(key), fill)).rejects.toThrow(RangeError);
  });
});

describe("a cache folder that cannot be used is a sentence with path and remedy", () => {
  it("where a file is in its place", async () => {
    const file = join(temporaryFolder(), "file");
    writeFileSync(file, "");
    for (const root of [file, join(file, "below")]) {
      const error = await publish(root, item("k"), fill).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(CacheError);
      expect(error).toMatchObject({
        message: expect.stringMatching(/^The cache folder .*file.*choose another.*LAMBDATAP_CACHE/),
      });
      expect(error).toMatchObject({ message: expect.stringContaining(root) });
    }
  });

  it.skipIf(process.platform === "win32")("where this user may not write", async () => {
    const root = temporaryFolder();
    chmodSync(root, 0o555);
    const result = await resultOf(startChild(root, "as nobody"));
    expect(result).toMatchObject({
      error: "CacheError",
      message: expect.stringMatching(/cannot be written: give this user/),
    });
    expect(result).toMatchObject({ message: expect.stringContaining(root) });
    chmodSync(root, 0o755);
    await publish(root, item("k"), fill);
    chmodSync(root, 0o555);
    expect(await resultOf(startChild(root, "as nobody"))).toEqual({ folder: join(root, "k") });
    chmodSync(root, 0o755);
  });

  it.skipIf(process.platform !== "linux")("where the disk is full, and nothing stays behind", async () => {
    const root = temporaryFolder();
    const result = await resultOf(startChild(root, "onto a full disk"));
    expect(result).toMatchObject({
      error: "CacheError",
      message: expect.stringMatching(/on a disk that is full: free some space \(lambdatap cache prune\)/),
    });
    expect(readdirSync(root)).toEqual([]);
  });

  it.skipIf(process.platform === "win32")("where a file grows beyond what may be written", async () => {
    const root = temporaryFolder();
    const result = await resultOf(startChild(root, "too much", { limit: "ulimit -f 1024" }));
    expect(result).toMatchObject({
      error: "CacheError",
      message: expect.stringMatching(/cannot hold a file this large/),
    });
    expect(readdirSync(root)).toEqual([]);
  });
});

describe("cache ls and cache prune", () => {
  const days = (n: number) => new Date(Date.now() - n * 86_400_000);

  it("show what was used last first, and remove by age, all, or all but some", async () => {
    const root = temporaryFolder();
    for (const [key, age] of [
      ["old", 40],
      ["middle", 20],
      ["new", 1],
    ] as const) {
      await publish(root, item(key), fill);
      utimesSync(join(root, key, "manifest.json"), days(age), days(age));
    }
    const keys = () => listEntries(root).map(({ key }) => key);
    expect(keys()).toEqual(["new", "middle", "old"]);
    expect(prune(root, {})).toEqual([]);
    expect(prune(root, { olderThanDays: 30 })).toMatchObject([{ key: "old" }]);
    expect(keys()).toEqual(["new", "middle"]);
    await publish(root, item("middle"), refill);
    expect(keys()).toEqual(["middle", "new"]);
    expect(prune(root, { all: true, keep: ["new"] })).toMatchObject([{ key: "middle" }]);
    expect(readdirSync(root)).toEqual(["new"]);
  });

  it("touch nothing that is not ours, not even through a link", async () => {
    const [root, outside] = [temporaryFolder(), temporaryFolder()];
    await publish(outside, item("theirs"), fill);
    symlinkSync(join(outside, "theirs"), join(root, "theirs"));
    mkdirSync(join(root, "hub"));
    writeFileSync(join(root, "hub", "model.safetensors"), "");
    writeFileSync(join(root, "hub", "manifest.json"), "{}");
    writeFileSync(join(root, "notes.lock"), "mine");
    await publish(root, item("k"), (folder) => {
      fill(folder);
      symlinkSync(join(outside, "theirs"), join(folder, "link"));
    });
    await publish(root, item("ours"), fill);
    prune(root, { all: true });
    expect(readdirSync(root).sort()).toEqual(["hub", "notes.lock", "theirs"]);
    expect(readFileSync(join(outside, "theirs", "weights"), "utf8")).toBe("12345678");
    expect(readdirSync(join(root, "hub"))).toHaveLength(2);
  });

  it("are content with a folder that does not exist", () => {
    const root = join(temporaryFolder(), "none");
    expect(listEntries(root)).toEqual([]);
    expect(prune(root, { all: true })).toEqual([]);
    expect(existsSync(root)).toBe(false);
  });
});

describe("the cache folder", () => {
  it("is LAMBDATAP_CACHE, or the platform's", () => {
    expect(cacheRoot({ LAMBDATAP_CACHE: "/c", XDG_CACHE_HOME: "/x", HOME: "/h" }, "linux")).toBe("/c");
    expect(cacheRoot({ LAMBDATAP_CACHE: "c" }, "linux")).toBe(join(process.cwd(), "c"));
    expect(cacheRoot({ LAMBDATAP_CACHE: "", XDG_CACHE_HOME: "/x", HOME: "/h" }, "linux")).toBe("/x/lambdatap");
    expect(cacheRoot({ XDG_CACHE_HOME: "relative", HOME: "/h" }, "linux")).toBe("/h/.cache/lambdatap");
    expect(cacheRoot({ HOME: "/h" }, "darwin")).toBe("/h/Library/Caches/lambdatap");
    expect(cacheRoot({ LOCALAPPDATA: "/l", HOME: "/h" }, "win32")).toBe("/l/lambdatap");
    expect(cacheRoot({ HOME: "/h" }, "win32")).toBe("/h/AppData/Local/lambdatap");
  });
});
