import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mapFile } from "../../../runtime/ort/mapped-file.js";
import { Session } from "../../../runtime/ort/session.js";
import { Tensor } from "../../../runtime/ort/tensor.js";
import { writeRunningTotal } from "./running-total.js";

/** Prints the number of threads of this process after each of some sessions was loaded. */
const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const threadsNow = (): number => readdirSync("/proc/self/task").length;
try {
  const { graph, weights, bytes, place } = writeRunningTotal(folder);
  const file = mapFile(weights, bytes);
  const weight = new Map([["w", Tensor.over(file, place.offset, place.type, place.shape)]]);
  const counts: number[] = [];
  for (const options of [{ threads: 3 }, { threads: 3 }, { threads: 3 }, { threads: 1 }, { threads: 3, spin: false }]) {
    Session.load(graph, { ...options, weights: weight });
    counts.push(threadsNow());
  }
  process.stdout.write(JSON.stringify(counts));
} finally {
  rmSync(folder, { recursive: true });
}
