import { compileModel } from "../../models/compile.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { expectedTensors, goldenFolder, goldenIds } from "../golden-tensors.js";
import { GPU_PRECISIONS } from "./ceilings.js";
import { differenceTable } from "./difference-table.js";
import { retrievalDifferences } from "./golden-retrieval.js";
import { logitsOf } from "./golden-text.js";
import { type Differences, differences, worst } from "./golden-tolerance.js";
import { runParts } from "./parts.js";
import type { Bench, Section } from "./section.js";

const GEOMETRIES = [
  { name: "lambda_w32_g4", window: 32, sinks: 4 },
  { name: "lambda_w32_g10", window: 32, sinks: 10 },
  { name: "lambda_w48_g4", window: 48, sinks: 4 },
];
const FULL = { name: "vanilla", window: Number.POSITIVE_INFINITY, sinks: 0 };
const CHUNKS = [1, 7, 32];
const RETRIEVAL = "retrieval";

/** Logits that the authors' LM-Infinite code has given, with RoPE, with ALiBi, and with middle retrieval. */
export const goldens: Section = {
  name: "goldens",
  about:
    "Stored logits of the authors' code. Each line is the worst of its cases (three geometries, 400 tokens each). Retrieval in 16 bits may choose other keys where scores lie close: stated, not held to the tolerance.",
  async run(bench, findings) {
    const add = differenceTable(findings, "LM-Infinite");
    for (const precision of GPU_PRECISIONS)
      for (const golden of ["lm-infinite", "lm-infinite-alibi"]) {
        const model = await compileModel({
          path: goldenFolder(golden),
          precision,
          device: "cuda",
          cacheRoot: bench.cacheRoot,
        });
        const options = { window: 32, threads: 1, device: bench.device };
        using runner = new Runner(model, options);
        using replaying = new Runner(model, { ...options, replays: true });
        const ways = {
          ...waysOf(bench, runner, golden),
          "decoded, replayed": () => lambda(bench, replaying, golden, null),
        };
        const parts = Object.entries(ways).map(([way, found]) => ({
          name: `${golden} in ${precision}, ${way}`,
          run: () => add(golden, precision, way, found(), precision === "f32" || way !== RETRIEVAL),
        }));
        await runParts(bench, findings, parts);
      }
  },
};

/** What each comes to, by what is done. */
function waysOf(bench: Bench, runner: Runner, golden: string): Record<string, () => Differences> {
  const chunks = CHUNKS.map((chunk) => [`prefilled in chunks of ${chunk}`, () => lambda(bench, runner, golden, chunk)]);
  return {
    ...Object.fromEntries(chunks),
    decoded: () => lambda(bench, runner, golden, null),
    "full attention": () => full(runner, golden),
    ...(golden === "lm-infinite" ? { [RETRIEVAL]: () => worst(retrievalDifferences(runner, bench.quick)) } : {}),
  };
}

/** @param chunk as in `logitsOf` */
function lambda({ quick, tiny }: Bench, runner: Runner, golden: string, chunk: number | null): Differences {
  const short = chunk === 1 && (quick || tiny);
  return worst(GEOMETRIES.slice(0, short ? 1 : undefined).map((geometry) => compared(runner, golden, geometry, chunk)));
}

const full = (runner: Runner, golden: string): Differences =>
  worst([compared(runner, golden, FULL, 50), compared(runner, golden, FULL, null)]);

function compared(runner: Runner, golden: string, geometry: typeof FULL, chunk: number | null): Differences {
  const want = expectedTensors(golden).get(geometry.name)?.values ?? new Float32Array();
  const size = chunk === null ? null : Math.min(chunk, geometry.window);
  return differences(logitsOf(runner, geometry, goldenIds(golden), size), want, runner.model.shape.vocabSize);
}
