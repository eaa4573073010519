import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import type { AskedPrecision } from "../../models/weights/block-format.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { compareLogits, type LogitDifference } from "../logit-difference.js";
import type { Cell, Goal } from "./findings.js";
import { logitsOf } from "./golden-text.js";
import { runParts } from "./parts.js";
import type { Bench, Section } from "./section.js";

const GEOMETRY = { window: 64, sinks: 4 };
const TOKENS = 90;
/** A GPU multiplies f32 activations with the very weights that the file's blocks stand for. */
const OWN_BLOCKS = 1e-3;

interface Case {
  readonly path: string;
  readonly precision: AskedPrecision;
  /** Blocks that are made here round the weights: how far, percent of the logits' rms. */
  readonly rounding: number | null;
}

const gguf = (name: string): Case => ({
  path: join("test", "golden", "gguf", `${name}.gguf`),
  precision: "auto",
  rounding: null,
});
const embedded = { path: join("models", "default") };
const CASES: readonly Case[] = [
  gguf("llama-tiny"),
  gguf("llama-tiny-q4_1"),
  gguf("llama-tiny-llama3"),
  { ...embedded, precision: "q8", rounding: 3 },
  { ...embedded, precision: "q4", rounding: 30 },
];

/** Weights in 8 and 4 bits on the GPU, beside the same model in f32 on the CPU. */
export const blocks: Section = {
  name: "blocks",
  about: `Weights in blocks of 8 and 4 bits: ${TOKENS} tokens, most prefilled, the last decoded and replayed, beside the same weights in f32 on the CPU. A file's own blocks are exact, those that are made here round.`,
  async run(bench, findings) {
    const add = findings.table("Blocks", [
      "model",
      "runs in",
      "largest difference",
      "rms, % of the logits'",
      "on the host",
    ]);
    await runParts(
      bench,
      findings,
      CASES.map((each) => ({ name: `${each.path} in ${each.precision}`, run: () => measure(bench, each, add) })),
    );
  },
};

async function measure(
  { device, cacheRoot }: Bench,
  { path, precision, rounding }: Case,
  add: (cells: readonly Cell[], goal?: Goal) => void,
): Promise<void> {
  const onDevice = await compileModel({ path, precision, device: "cuda", cacheRoot });
  const exact = await compileModel({ path, precision: "f32", cacheRoot });
  const options = { window: GEOMETRY.window, threads: 1 };
  using found = new Runner(onDevice, { ...options, device, replays: true });
  using wanted = new Runner(exact, options);
  const [ours, want] = [logits(found), logits(wanted)];
  const { largest, rms }: LogitDifference = compareLogits(ours, want, exact.shape.vocabSize);
  const share = (100 * rms) / Math.sqrt(want.reduce((sum, value) => sum + value ** 2, 0) / want.length);
  const nodes = found.hostNodes.length;
  const goal =
    rounding === null
      ? { goal: `largest <= ${OWN_BLOCKS}, none on the host`, met: largest <= OWN_BLOCKS && nodes === 0 }
      : { goal: `rms <= ${rounding} %, none on the host`, met: share <= rounding && nodes === 0 };
  add([path, onDevice.precision, largest, share, nodes], goal);
}

/** Of the whole text: prefilled in chunks, and decoded token by token. */
function logits(runner: Runner): Float32Array {
  const ids = Array.from({ length: TOKENS }, (_, i) => (i * 37 + 3) % Math.min(200, runner.model.shape.vocabSize));
  const ways = [logitsOf(runner, GEOMETRY, ids, 31), logitsOf(runner, GEOMETRY, ids, null)];
  const all = new Float32Array(ways.reduce((sum, { length }) => sum + length, 0));
  all.set(ways[0] ?? []);
  all.set(ways[1] ?? [], ways[0]?.length);
  return all;
}
