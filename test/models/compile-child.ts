/** A process that compiles a model and runs it, for compile.test: prints one JSON line, {logits, compiled} or an error. */
import { writeSync } from "node:fs";
import { compileModel } from "../../models/compile.js";
import { runTokens } from "./run-tokens.js";

const [folder = "", cacheRoot = "", how = "", sinks = "2"] = process.argv.slice(2);
let compiled = false;

function onProgress(): void {
  compiled = true;
  if (how !== "stop midway") return;
  writeSync(1, "midway\n");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

// After everything is loaded: the code itself may lie where only root reads.
if (how === "as nobody" && process.getuid?.() === 0) process.setuid?.(65534);
try {
  const model = await compileModel({ folder, precision: "f32", cacheRoot, onProgress });
  const logits = runTokens(model, Number(sinks));
  console.log(JSON.stringify({ logits: [...logits], compiled }));
} catch (error) {
  console.log(JSON.stringify(error instanceof Error ? { error: error.name, message: error.message } : { error }));
}
