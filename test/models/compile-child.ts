/** A process that compiles a model and runs it, for compile.test: prints one JSON line, {logits, compiled, grown} or an error. */
import { readFileSync, writeSync } from "node:fs";
import { compileModel } from "../../models/compile.js";
import { runTokens } from "./run-tokens.js";

const [folder = "", cacheRoot = "", how = "", sinks = "2"] = process.argv.slice(2);
let compiled = false;

function onProgress(): void {
  compiled = true;
  if (how === "stop midway") writeSync(1, "midway\n");
  if (how === "stop midway" || how === "slowly") {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, how === "slowly" ? 100 : Number.POSITIVE_INFINITY);
  }
}

// After everything is loaded: the code itself may lie where only root reads.
if (how === "as nobody" && process.getuid?.() === 0) process.setuid?.(65534);
try {
  const before = peak();
  const model = await compileModel({ path: folder, precision: how === "q8" ? "q8" : "f32", cacheRoot, onProgress });
  const grown = peak() - before;
  console.log(JSON.stringify({ logits: [...runTokens(model, Number(sinks))], compiled, grown }));
} catch (error) {
  console.log(JSON.stringify(error instanceof Error ? { error: error.name, message: error.message } : { error }));
}

/** Largest memory this process ever had, bytes; NaN where the system does not say. */
function peak(): number {
  if (process.platform !== "linux") return Number.NaN;
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
}
