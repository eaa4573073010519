import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { compileModel } from "../../models/compile.js";
import type { AskedPrecision } from "../../models/weights/block-format.js";
import type { LlamaSizes } from "../models/random-model.js";
import { randomLlama, SMOLLM2 } from "./bench-model.js";
import { argument, type Figure, report } from "./report.js";

/** What compiling takes of memory beyond what the process had before: a model of 540 MB beside one of 2 MB. */
const TINY: LlamaSizes = { layers: 2, hidden: 64, heads: 2, kvHeads: 1, headDim: 32, intermediate: 128, vocab: 4096 };
const precisions: readonly AskedPrecision[] = ["f32", "q8"];
const Measured = z.object({ before: z.number(), peak: z.number(), compiled: z.number() });

const child = argument("child");
if (child === undefined) report("memory of compiling (peak of a process, Linux)", [TINY, SMOLLM2].flatMap(figuresOf));
else await compileAndMeasure(child, argument("precision") === "q8" ? "q8" : "f32");

function figuresOf(sizes: LlamaSizes): Figure[] {
  const folder = randomLlama(sizes);
  const file = statSync(join(folder, "model.safetensors")).size;
  return precisions.map((precision) => {
    const line = execFileSync(process.execPath, [
      fileURLToPath(import.meta.url),
      "--child",
      folder,
      "--precision",
      precision,
    ]);
    const { before, peak, compiled } = Measured.parse(JSON.parse(String(line)));
    return {
      name: `${precision}: file of ${(file / 1e6).toFixed(0)} MB, compiled ${(compiled / 1e6).toFixed(0)} MB`,
      value: (peak - before) / 1e6,
      unit: "MB more",
      beside: `peak RSS ${(peak / 1e6).toFixed(0)} MB, before ${(before / 1e6).toFixed(0)} MB`,
    };
  });
}

async function compileAndMeasure(folder: string, precision: AskedPrecision): Promise<void> {
  const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-bench-"));
  const before = peakRss();
  const { weights } = await compileModel({ path: folder, precision, cacheRoot });
  const peak = peakRss();
  rmSync(cacheRoot, { recursive: true });
  process.stdout.write(JSON.stringify({ before, peak, compiled: weights.bytes }));
}

function peakRss(): number {
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
}
