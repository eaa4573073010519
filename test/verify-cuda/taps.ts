import { median, timed } from "../bench/report.js";
import { WIDTH } from "./ceilings.js";
import type { Findings } from "./findings.js";
import { runParts } from "./parts.js";
import type { Bench, Section } from "./section.js";
import { cached, small, weightsRead } from "./shapes.js";
import { GEOMETRY, TappedModel, WIDTHS } from "./tapped-model.js";

const CHUNK = 512;

/** What reading features costs. */
export const taps: Section = {
  name: "taps",
  about: `The 135M shape in f16, SAEs of ${WIDTHS} times its width in f32 on the GPU, native activation (top-AFA), all five scalars and the top 8. Floor: what the SAEs' matrices (encoder, and decoder for the mse) add to the bytes of a step.`,
  async run(bench, findings) {
    const add = findings.table("Taps", ["phase", "replays", "SAEs", "ms", "of none", "floor, of none"]);
    await runParts(bench, findings, [
      { name: "decode, replayed", run: () => decoding(bench, true, add) },
      { name: "decode", run: () => decoding(bench, false, add) },
      { name: "prefill", run: () => prefilling(bench, add) },
    ]);
  },
};

type Add = ReturnType<Findings["table"]>;

const counts = ({ quick }: Bench): number[] => (quick ? [0, 1, 3] : [0, 1, 3, 6]);

async function decoding(bench: Bench, replays: boolean, add: Add): Promise<void> {
  using model = await TappedModel.open(bench, Math.max(...counts(bench)), replays);
  const ms = counts(bench).map((count) => medianOf(bench.quick ? 30 : 100, (i) => model.decode(i, count)));
  for (const [i, count] of counts(bench).entries()) {
    const [own = 0, none = 1] = [ms[i], ms[0]];
    const cells = ["decode, a token", replays ? "yes" : "no", String(count)];
    add([...cells, own, own / none, 1 + share(bench, count)]);
  }
}

async function prefilling(bench: Bench, add: Add): Promise<void> {
  using model = await TappedModel.open(bench, Math.max(...counts(bench)), false);
  const { vocabSize } = model.runner.model.shape;
  const ids = Array.from({ length: CHUNK }, (_, i) => (i * 7919) % vocabSize);
  const ms = counts(bench).map((count) =>
    medianOf(bench.quick ? 3 : 8, () => {
      model.prefill(ids, count);
      bench.device.runtime.wait();
    }),
  );
  for (const [i, count] of counts(bench).entries()) {
    const [own = 0, none = 1] = [ms[i], ms[0]];
    add([`prefill, a chunk of ${CHUNK}`, "no", String(count), own, own / none, null]);
  }
}

/** Milliseconds of a run, once it has run before. */
function medianOf(count: number, run: (i: number) => void): number {
  for (let i = 0; i < 5; i++) run(i);
  return median(Array.from({ length: count }, (_, i) => timed(() => run(i))));
}

/** Bytes that so many SAEs add to those of a decode step. */
function share({ tiny }: Bench, count: number): number {
  const { sizes } = small(tiny);
  const step = WIDTH.f16 * (weightsRead(sizes) + cached(sizes, GEOMETRY.window + GEOMETRY.sinks));
  return (count * 2 * WIDTHS * sizes.hidden ** 2 * WIDTH.f32) / step;
}
