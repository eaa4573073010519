import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Binding } from "../../../runtime/ort/binding.js";
import { mapFile } from "../../../runtime/ort/mapped-file.js";
import { PrepackedWeights, Session } from "../../../runtime/ort/session.js";
import { Tensor } from "../../../runtime/ort/tensor.js";
import { type GraphFiles, WIDTH, writeRunningTotal } from "./running-total.js";

/** Builds, runs and disposes everything ROUNDS times, each time in another order; prints how the memory went. */
const ROUNDS = 1000;
const WARM = 200;
/** A tensor has 16 KiB. */
const ROWS = 16;

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
try {
  const files = writeRunningTotal(folder);
  const resident: number[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    oneLife(files, round);
    // What V8 has found to be garbage is freed in a turn of the event loop.
    if (round % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    if (round === WARM || round === ROUNDS) {
      globalThis.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 50));
      resident.push(process.memoryUsage.rss());
    }
  }
  process.stdout.write(JSON.stringify({ warm: resident[0], end: resident[1] }));
} finally {
  rmSync(folder, { recursive: true });
}

function oneLife({ graph, weights, bytes, place }: GraphFiles, round: number): void {
  const file = mapFile(weights, bytes);
  const weight = Tensor.over(file, place.offset, place.type, place.shape);
  const prepacked = new PrepackedWeights();
  const session = Session.load(graph, {
    threads: 1,
    weights: new Map([["w", weight]]),
    prepacked,
    prepack: round % 2 === 0,
  });
  const x = Tensor.zeros("float32", [2 * ROWS, WIDTH]);
  const half = x.alias([ROWS, WIDTH], ROWS * WIDTH);
  const total = Tensor.zeros("float32", [ROWS, WIDTH]);
  const y = Tensor.zeros("float32", [ROWS, WIDTH]);
  const inputs = new Map([
    ["x", half],
    ["total", total],
  ]);
  const outputs = new Map([
    ["y", y],
    ["next", total],
  ]);
  const binding = new Binding(session, inputs, outputs);
  x.fill(round);
  binding.run();
  binding.run();
  const sum = total.read(new Float32Array(ROWS * WIDTH));
  if (!sum.every((value) => value === 4 * round)) throw new Error(`round ${round}: the sum is ${sum[0]}`);

  const alive: Disposable[] = [file, weight, prepacked, session, x, half, total, y, binding];
  const uses = [
    () => binding.run(),
    () => total.read(sum),
    () => half.alias([1])[Symbol.dispose](),
    () => x.fill(1),
    () => session.pointer,
  ];
  for (const each of permutation(alive, round)) {
    each[Symbol.dispose]();
    each[Symbol.dispose]();
    for (const use of uses) attempt(use);
  }
}

/** What is used after its end throws; what still lives, or is held by something that does, works. */
function attempt(use: () => unknown): void {
  try {
    use();
  } catch (error) {
    if (!(error instanceof Error && error.message.endsWith("was used after it was disposed"))) throw error;
  }
}

/** Rounds give different orders (9! are more than the rounds; their prime steps spread them over all of these). */
function permutation<T>(items: readonly T[], round: number): T[] {
  const left = [...items];
  const order: T[] = [];
  for (let code = round * 359; left.length > 0; ) {
    order.push(...left.splice(code % left.length, 1));
    code = Math.floor(code / (left.length + 1));
  }
  return order;
}
