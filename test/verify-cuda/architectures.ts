import { compileModel } from "../../models/compile.js";
import { Runner } from "../../runtime/graphs/runner.js";
import { expectedTensors, goldenArchitectures, goldenFolder, goldenSequences } from "../golden-tensors.js";
import { pieceEnds } from "../text-pieces.js";
import { GPU_PRECISIONS, type GpuPrecision } from "./ceilings.js";
import { differenceTable } from "./difference-table.js";
import { withRow } from "./golden-text.js";
import { type Differences, differences, worst } from "./golden-tolerance.js";
import { runParts } from "./parts.js";
import type { Bench, Section } from "./section.js";

const GEOMETRY = { window: 64, sinks: 2 };

/** Every golden architecture: logits of transformers, and where the nodes of its graphs run. */
export const architectures: Section = {
  name: "architectures",
  about:
    "Logits of transformers for every golden architecture: prefilled whole, in chunks of 7, token by token, and mixed; replayed: token by token.",
  async run(bench, findings) {
    const add = differenceTable(findings, "Architectures");
    const parts = GPU_PRECISIONS.flatMap((precision) =>
      goldenArchitectures().map((golden) => ({
        name: `${golden.name} in ${precision}`,
        run: () => measure(bench, golden, precision, add),
      })),
    );
    await runParts(bench, findings, parts);
  },
};

interface Golden {
  readonly name: string;
  /** The model that gives its values. */
  readonly expectedFrom: string;
}

async function measure(
  { quick, device, cacheRoot }: Bench,
  golden: Golden,
  precision: GpuPrecision,
  add: ReturnType<typeof differenceTable>,
): Promise<void> {
  const model = await compileModel({
    path: goldenFolder(`architectures/${golden.name}`),
    precision,
    device: "cuda",
    cacheRoot,
  });
  const options = { window: GEOMETRY.window, threads: 1, device };
  {
    using runner = new Runner(model, options);
    const ways = quick ? [mixed] : [whole, chunks, single, mixed];
    add(golden.name, precision, quick ? "mixed" : "all ways", compared(runner, golden, ways));
  }
  if (quick) return;
  using replaying = new Runner(model, { ...options, replays: true });
  add(golden.name, precision, "replayed", compared(replaying, golden, [single]));
}

/** Where the pieces of a text of so many tokens end; pieces of one token are decoded. */
type Way = (length: number) => readonly number[];

const whole: Way = (length) => pieceEnds(length, GEOMETRY.window);
const chunks: Way = (length) => pieceEnds(length, 7);
const single: Way = (length) => pieceEnds(length, 1);
const mixed: Way = (length) => pieceEnds(length, 5, 10);

function compared(runner: Runner, { name, expectedFrom }: Golden, ways: readonly Way[]): Differences {
  const expected = expectedTensors(`architectures/${expectedFrom}`);
  return worst(
    goldenSequences(`architectures/${name}`).flatMap((ids, i) => {
      const want = expected.get(`seq${i}.logits`)?.values ?? new Float32Array();
      return ways.map((way) => differences(inPieces(runner, ids, way(ids.length)), want, runner.model.shape.vocabSize));
    }),
  );
}

function inPieces(runner: Runner, ids: readonly number[], ends: readonly number[]): Float32Array {
  return withRow(runner, GEOMETRY, (cache, row) => {
    const { vocabSize } = runner.model.shape;
    const logits = new Float32Array(ids.length * vocabSize);
    for (const [i, end] of ends.entries()) {
      const start = ends[i - 1] ?? 0;
      const tokens = ids.slice(start, end);
      const found =
        tokens.length === 1
          ? runner.decode(cache, row, tokens)
          : runner.prefill(cache, row, tokens, [...tokens.keys()]);
      logits.set(found, start * vocabSize);
    }
    return logits;
  });
}
