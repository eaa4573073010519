import { join } from "node:path";
import { compileModel } from "../../models/compile.js";
import type { ChosenActivation } from "../../models/sae/chosen-activation.js";
import type { FeatureRequest, SaeReading } from "../../runtime/contract/features.js";
import { Runner } from "../../runtime/graphs/runner.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";
import { CPU, type Device } from "../../runtime/ort/device.js";
import { AttachedSaes } from "../../runtime/saes/attached-saes.js";
import { heldOutTokens } from "../bench/held-out-tokens.js";
import { maxDifference } from "../golden-tensors.js";
import { editedLogits } from "./edited-logits.js";
import type { Findings, Goal } from "./findings.js";
import { logitsOf } from "./golden-text.js";
import { runParts } from "./parts.js";
import type { Bench, Section } from "./section.js";

const MODEL = join("models", "default");
const GEOMETRY = { window: 256, sinks: 10 };
const TOP = 8;
const ACTIVATIONS: readonly ChosenActivation[] = [{ kind: "native" }, { kind: "top-afa" }, { kind: "top-k", k: 32 }];
/** Relative; sums of a thousand f32 products in another order. */
const CLOSE = 1e-3;
const SAME = 0.99;

/** What the embedded model's SAEs say of the same residuals on the GPU and on the CPU. */
export const features: Section = {
  name: "features",
  about: `256 tokens of the held-out text, the three SAEs of the embedded model: readings of the GPU beside those of the CPU, from the same residuals. Relative differences are the largest, l0 is stated: where |z| lies between two sums its cut is a matter of rounding.`,
  async run(bench, findings) {
    const model = await compileModel({ path: MODEL, precision: "f32", device: "cuda", cacheRoot: bench.cacheRoot });
    const attach = (device: Device) =>
      AttachedSaes.attach({
        choice: { folders: undefined, precision: "f32", anyModel: false },
        model,
        folder: MODEL,
        names: ["default"],
        cacheRoot: bench.cacheRoot,
        threads: 1,
        spin: true,
        device,
      });
    using onHost = await attach(CPU);
    using onDevice = await attach(bench.device);
    using runner = new Runner(model, {
      window: 256,
      threads: 1,
      device: bench.device,
      taps: onHost.hooks,
      cuttingSaes: onDevice.cutting,
    });
    const residuals = await tapped(bench, runner);
    const add = findings.table("Features", ["activation", "z", "f", "mse", "l0, most", "same top 8, %"]);
    const saes = onHost.cards.map(({ id }) => id);
    const readings = ACTIVATIONS.map((activation) => ({
      name: activation.kind,
      run: () => {
        const request: FeatureRequest = { saes, top: TOP, activation, prompt: true };
        const [want, found] = [onHost, onDevice].map((each) => each.read(request, residuals).flat());
        const difference = compare(found ?? [], want ?? []);
        const { z, f, mse, l0, same } = difference;
        add([activation.kind, z, f, mse, l0, 100 * same], goalFor(difference));
      },
    }));
    await runParts(bench, findings, [
      ...readings,
      { name: "edits", run: () => edits(findings, runner, { onHost, onDevice }) },
    ]);
  },
};

/** What edits of features do to the logits, and where the nodes of the graphs for it run. */
async function edits(
  findings: Findings,
  onDevice: Runner,
  saes: { readonly onHost: AttachedSaes; readonly onDevice: AttachedSaes },
): Promise<void> {
  const ids = await heldOutTokens(MODEL, onDevice.model.shape, 64);
  using onHost = new Runner(onDevice.model, {
    window: GEOMETRY.window,
    threads: 1,
    taps: saes.onHost.hooks,
    cuttingSaes: saes.onHost.cutting,
  });
  const want = editedLogits(onHost, GEOMETRY, saes.onHost, ids);
  const found = editedLogits(onDevice, GEOMETRY, saes.onDevice, ids);
  const unedited = logitsOf(onHost, GEOMETRY, ids, ids.length);
  const add = findings.table("Edits", ["what", "found"]);
  const largest = maxDifference(found, want);
  add(["logits of three clamped features, largest difference", largest], {
    goal: `<= ${CLOSE}`,
    met: largest <= CLOSE,
  });
  add(["what the edits change, largest", maxDifference(want, unedited)]);
  const nodes = onDevice.hostNodes;
  add(["nodes on the host", nodes.length], { goal: "none", met: nodes.length === 0 });
}

/** Residuals at the hooks of a runner, of a chunk of the held-out text. */
async function tapped({ tiny }: Bench, runner: Runner): Promise<Residuals> {
  const residuals: Residuals = new Map();
  const cache = runner.openCache(GEOMETRY);
  const ids = await heldOutTokens(MODEL, runner.model.shape, tiny ? 16 : 256);
  runner.prefill(cache, cache.allocate(), ids, [], { residuals });
  runner.closeCache(cache);
  return residuals;
}

interface Difference {
  /** Relative. */
  readonly z: number;
  readonly f: number;
  readonly mse: number;
  readonly l0: number;
  /** Share of the listed features. */
  readonly same: number;
}

function compare(found: readonly SaeReading[], want: readonly SaeReading[]): Difference {
  if (found.length !== want.length) throw new RangeError(`${found.length} readings instead of ${want.length}`);
  const pairs = want.map((each, i): readonly [SaeReading, SaeReading] => [found[i] ?? each, each]);
  const largest = (of: (a: SaeReading, b: SaeReading) => number) => Math.max(...pairs.map(([a, b]) => of(a, b)));
  const relative = (field: "z" | "f" | "mse") =>
    largest((a, b) => Math.abs(a[field] - b[field]) / Math.max(Math.abs(b[field]), Number.MIN_VALUE));
  let [listed, same] = [0, 0];
  for (const [a, b] of pairs) {
    listed += b.indices.length;
    for (const feature of b.indices) if (a.indices.includes(feature)) same++;
  }
  const l0 = largest((a, b) => Math.abs(a.l0 - b.l0));
  return { z: relative("z"), f: relative("f"), mse: relative("mse"), l0, same: listed === 0 ? 1 : same / listed };
}

const goalFor = ({ z, f, mse, same }: Difference): Goal => ({
  goal: `z, f, mse within ${CLOSE}, ${100 * SAME} % the same`,
  met: z <= CLOSE && f <= CLOSE && mse <= CLOSE && same >= SAME,
});
