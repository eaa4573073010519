import { median, timed } from "../bench/report.js";
import { WIDTH } from "./ceilings.js";
import type { Bench, Section } from "./section.js";
import { cached, small, weightsRead } from "./shapes.js";
import { GEOMETRY, TappedModel, WIDTHS } from "./tapped-model.js";

const CHUNK = 512;

/** What reading features costs. */
export const taps: Section = {
  name: "taps",
  about: `The 135M shape in f16, SAEs of ${WIDTHS} times its width in f32 on the GPU, native activation (top-AFA), all five scalars and the top 8. Floor: what the SAEs' matrices (encoder, and decoder for the mse) add to the bytes of a step.`,
  async run(bench, findings) {
    const counts = bench.quick ? [0, 1, 3] : [0, 1, 3, 6];
    const steps = bench.quick ? 30 : 100;
    const add = findings.table("Taps", ["phase", "replays", "SAEs", "ms", "of none", "floor, of none"]);
    for (const replays of [true, false]) {
      using model = await TappedModel.open(bench, Math.max(...counts), replays);
      const decoding = counts.map((count) => timesOf(steps, (i) => model.decode(i, count)));
      for (const [i, count] of counts.entries()) {
        const ms = decoding[i] ?? 0;
        add([
          "decode, a token",
          replays ? "yes" : "no",
          String(count),
          ms,
          ms / (decoding[0] ?? 1),
          1 + share(bench, count),
        ]);
      }
      if (replays) continue;
      const ids = Array.from({ length: CHUNK }, (_, i) => (i * 7919) % model.runner.model.shape.vocabSize);
      const prefilling = counts.map((count) =>
        timesOf(bench.quick ? 3 : 8, () => {
          model.prefill(ids, count);
          bench.device.runtime.wait();
        }),
      );
      for (const [i, count] of counts.entries()) {
        const ms = prefilling[i] ?? 0;
        add([`prefill, a chunk of ${CHUNK}`, "no", String(count), ms, ms / (prefilling[0] ?? 1), null]);
      }
    }
  },
};

function timesOf(count: number, run: (i: number) => void): number {
  for (let i = 0; i < 5; i++) run(i);
  return median(Array.from({ length: count }, (_, i) => timed(() => run(i))));
}

/** Bytes that so many SAEs add to those of a decode step. */
function share({ tiny }: Bench, count: number): number {
  const { sizes } = small(tiny);
  const step = WIDTH.f16 * (weightsRead(sizes) + cached(sizes, GEOMETRY.window + GEOMETRY.sinks));
  return (count * 2 * WIDTHS * sizes.hidden ** 2 * WIDTH.f32) / step;
}
