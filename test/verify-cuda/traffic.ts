import type { Findings } from "./findings.js";
import { runParts } from "./parts.js";
import type { Bench, Section } from "./section.js";
import { small } from "./shapes.js";
import { TappedModel } from "./tapped-model.js";

const CHUNK = 512;
const STEPS = 20;
/** What a step may take besides logits and what taps say: numbers of tokens and slots, rotary tables. */
const SMALL = 64 << 10;

interface Copied {
  readonly toDevice: number;
  readonly toHost: number;
}

/** Bytes that are copied between host and GPU: no cache is among them. */
export const traffic: Section = {
  name: "traffic",
  about: `The 135M shape in f16, window 1024 full. Counted where memory is copied; logits are f32. The cache must not be among it: a decode step may bring its logits, a residual for every SAE and ${SMALL / 1024} KiB to the host, and take ${SMALL / 1024} KiB to the GPU.`,
  async run(bench, findings) {
    const counts = bench.quick ? [0, 1] : [0, 1, 3];
    using model = await TappedModel.open(bench, Math.max(...counts), true);
    const columns = ["what", "SAEs", "to the GPU, bytes", "to the host, bytes", "logits, bytes", "cache, bytes"];
    const add = findings.table("Traffic", columns);
    const parts = counts.flatMap((count) => [
      { name: `decoding with ${count} SAEs`, run: () => step(bench, model, count, add) },
      { name: `prefilling with ${count} SAEs`, run: () => chunk(bench, model, count, add) },
    ]);
    await runParts(bench, findings, parts);
  },
};

type Add = ReturnType<Findings["table"]>;

function step(bench: Bench, model: TappedModel, count: number, add: Add): void {
  const { vocab, hidden } = small(bench.tiny).sizes;
  const { toDevice, toHost } = copied(bench, STEPS, (i) => model.decode(i, count));
  const logits = 4 * vocab;
  const most = logits + count * 4 * hidden + SMALL;
  add(["a decoded token", String(count), toDevice, toHost, logits, model.cache.bytes], {
    goal: `to the host <= ${most.toLocaleString("en")}, to the GPU <= ${SMALL.toLocaleString("en")}`,
    met: toHost <= most && toDevice <= SMALL,
  });
}

function chunk(bench: Bench, model: TappedModel, count: number, add: Add): void {
  const { vocab, hidden } = small(bench.tiny).sizes;
  const ids = Array.from({ length: CHUNK }, (_, i) => (i * 7919) % vocab);
  const { toDevice, toHost } = copied(bench, 1, () => model.prefill(ids, count));
  const most = CHUNK * count * 4 * hidden + SMALL;
  const cells = [`a prefilled token, in chunks of ${CHUNK}`, String(count), toDevice / CHUNK, toHost / CHUNK];
  add([...cells, 0, model.cache.bytes], {
    goal: `to the host <= ${Math.ceil(most / CHUNK).toLocaleString("en")}`,
    met: toHost <= most,
  });
}

/** Bytes a run, once it has run before. */
function copied({ device }: Bench, times: number, run: (i: number) => void): Copied {
  for (let i = 0; i < 5; i++) run(i);
  const before = { ...device.runtime.traffic };
  for (let i = 0; i < times; i++) run(i);
  const { toDevice, toHost } = device.runtime.traffic;
  return { toDevice: (toDevice - before.toDevice) / times, toHost: (toHost - before.toHost) / times };
}
