import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { type ActivationChoice, ContextActivations } from "../../lab/activations/context-activations.js";
import { Contexts } from "../../lab/activations/contexts.js";
import { HookColumns } from "../../lab/activations/hook-columns.js";
import { ShuffleBuffer } from "../../lab/activations/shuffle-buffer.js";
import { LabModel } from "../../lab/model/lab-model.js";
import { hook } from "../../models/hooks.js";
import { packageRoot } from "../../models/package-root.js";
import { argument, type Figure, median, report } from "./report.js";

/**
 * Activations of the residual stream of the embedded model, from a text to shuffled batches, in turns with its forward pass
 * alone over the same contexts, and with the prefill that a server runs: what encoding and mixing cost, and what is saved by
 * ending at the hook.
 */
const CONTEXTS_TOGETHER = 8;
const BATCH = 2048;
const ROUNDS = 3;

const threads = Number(argument("threads") ?? availableParallelism());
const text = [argument("text") ?? join(packageRoot(), "test", "data", "the-wind-in-the-willows.txt")];
const choice: ActivationChoice = { text, part: "all", skipStart: 0 };
const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
const figures: Figure[] = [];
for (const layer of [1, 3, 5]) figures.push(...(await ofLayer(layer)));
rmSync(folder, { recursive: true });
report("activations of the embedded model, contexts of 256 tokens", figures, [
  `${threads} threads; median of ${ROUNDS} rounds in turns; tokens of ${text}, all of a context`,
]);

async function ofLayer(layer: number): Promise<Figure[]> {
  const at = hook.residPost(layer);
  const path = join(packageRoot(), "models", "default");
  const how = { precision: "f32", device: { kind: "cpu" }, threads } as const;
  using model = await LabModel.open({ path, name: "the embedded model", ...how }, [at]);
  const columns = new HookColumns(model, at);
  const contexts: Int32Array[] = [];
  const read = Contexts.open(model, choice);
  for (let next = await read.next(); next !== null; next = await read.next()) contexts.push(next.ids);
  const groups = Array.from({ length: Math.floor(contexts.length / CONTEXTS_TOGETHER) }, (_, i) =>
    contexts.slice(i * CONTEXTS_TOGETHER, (i + 1) * CONTEXTS_TOGETHER),
  );
  const source = (state?: Parameters<typeof ContextActivations.open>[3]) =>
    ContextActivations.open(model, columns, choice, state);
  const ways = {
    served: async () => {
      for (const group of groups) model.run(group, { residuals: new Map() });
    },
    forward: async () => {
      for (const group of groups) model.activations(group);
    },
    encoded: async () => {
      const from = await source();
      const rows = new Float32Array(BATCH * columns.width);
      while ((await from.fill(rows)) === BATCH);
    },
    shuffled: async () => {
      const settings = { vectors: 16 * BATCH, batch: BATCH, seed: 1 };
      using buffer = await ShuffleBuffer.open(join(folder, "buffer"), source, settings);
      const rows = new Float32Array(BATCH * columns.width);
      while (await buffer.next(rows));
    },
  };
  const rates: Record<keyof typeof ways, number[]> = { served: [], forward: [], encoded: [], shuffled: [] };
  for (let round = 0; round <= ROUNDS; round++)
    for (const [name, run] of [
      ["served", ways.served],
      ["forward", ways.forward],
      ["encoded", ways.encoded],
      ["shuffled", ways.shuffled],
    ] as const) {
      const began = performance.now();
      await run();
      const tokens = groups.length * CONTEXTS_TOGETHER * read.length;
      if (round > 0) rates[name].push((1000 * tokens) / (performance.now() - began));
    }
  const [served, forward, encoded, shuffled] = [rates.served, rates.forward, rates.encoded, rates.shuffled].map(median);
  const share = (rate = 0, of = 1) => `${((100 * rate) / of).toFixed(0)} %`;
  const unit = "tokens/s";
  return [
    { name: `layer ${layer}: served prefill`, value: served ?? 0, unit },
    { name: "  up to the hook", value: forward ?? 0, unit, beside: `${share(forward, served)} of the served prefill` },
    {
      name: "  from the text",
      value: encoded ?? 0,
      unit,
      beside: `${share(encoded, forward)} of the forward pass alone`,
    },
    { name: "  in shuffled batches", value: shuffled ?? 0, unit, beside: `${share(shuffled, forward)} of it` },
  ];
}
