/** A process that compiles into a cache, for compile-cache.test: prints what it got as one JSON line. */
import { appendFileSync, openSync, symlinkSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { publish } from "../../../models/cache/compile-cache.js";

const [root = "", key = "", how = "", log = ""] = process.argv.slice(2);

const FILLS: Record<string, (folder: string) => Promise<void> | void> = {
  slowly: async (folder) => {
    appendFileSync(log, "x");
    for (let i = 0; i < 8; i++) {
      appendFileSync(join(folder, "weights"), "12345678");
      await sleep(40);
    }
  },
  "until killed": (folder) => {
    writeFileSync(join(folder, "weights"), "1234");
    writeSync(1, "half\n");
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  },
  "too much": (folder) => {
    for (let i = 0; i < 64; i++) appendFileSync(join(folder, "weights"), new Uint8Array(65536));
  },
  "onto a full disk": (folder) => {
    symlinkSync("/dev/full", join(folder, "weights"));
    writeSync(openSync(join(folder, "weights"), "w"), "12345678");
  },
  "as nobody": (folder) => writeFileSync(join(folder, "weights"), "12345678"),
};

if (how === "as nobody" && process.getuid?.() === 0) process.setuid?.(65534);
try {
  const folder = await publish(root, { key, model: "m", precision: "f32" }, FILLS[how] ?? (() => {}));
  console.log(JSON.stringify({ folder }));
} catch (error) {
  console.log(JSON.stringify(error instanceof Error ? { error: error.name, message: error.message } : { error }));
}
