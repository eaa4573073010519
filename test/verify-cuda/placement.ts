import { compileModel } from "../../models/compile.js";
import type { HookName } from "../../models/hooks.js";
import { Runner } from "../../runtime/graphs/runner.js";
import type { HostNode } from "../../runtime/ort/placement.js";
import { goldenArchitectures, goldenFolder } from "../golden-tensors.js";
import { GPU_PRECISIONS, type GpuPrecision } from "./ceilings.js";
import { retrievalDifferences } from "./golden-retrieval.js";
import { runParts } from "./parts.js";
import type { Bench, Section } from "./section.js";

/** Quick: one of each way of attending, of normalising and of turning positions. */
const QUICK = ["llama", "gemma2", "gemma3_text", "gpt2", "gptj", "bloom", "falcon_alibi", "phi3_longrope", "qwen3"];

/** Nodes of the graphs through which data leaves the GPU: there should be none. */
export const placement: Section = {
  name: "placement",
  about:
    "Decode, prefill and far prefill graphs of the golden architectures, with a tap in the last layer: nodes that copy between host and GPU, or that run on the host and read more than a number or two.",
  async run(bench, findings) {
    const add = findings.table("Placement", ["golden", "type", "nodes", "which"]);
    const show = (name: string, precision: GpuPrecision, nodes: readonly HostNode[]) => {
      const which = nodes.map(({ name: node, opType, reason }) => `${node} (${opType}) ${reason}`).join("; ");
      add([name, precision, nodes.length, which], { goal: "none", met: nodes.length === 0 });
    };
    const names = goldenArchitectures().map(({ name }) => name);
    const asked = bench.quick ? names.filter((each) => QUICK.includes(each)) : names;
    const parts = asked.flatMap((name) =>
      GPU_PRECISIONS.map((precision) => ({
        name: `${name} in ${precision}`,
        run: async () => show(name, precision, await hostNodes(bench, name, precision)),
      })),
    );
    const retrieving = GPU_PRECISIONS.map((precision) => ({
      name: `retrieval in ${precision}`,
      run: async () => show("lm-infinite, retrieving", precision, await retrievalNodes(bench, precision)),
    }));
    await runParts(bench, findings, [...parts, ...retrieving]);
  },
};

async function hostNodes(bench: Bench, name: string, precision: GpuPrecision): Promise<readonly HostNode[]> {
  const path = goldenFolder(`architectures/${name}`);
  const model = await compileModel({ path, precision, device: "cuda", cacheRoot: bench.cacheRoot });
  const taps = new Set<HookName>(model.hooks.slice(-1));
  using runner = new Runner(model, { window: 64, threads: 1, device: bench.device, taps });
  runner.load({ window: 64, sinks: 2 });
  return runner.hostNodes;
}

async function retrievalNodes({ device, cacheRoot }: Bench, precision: GpuPrecision): Promise<readonly HostNode[]> {
  const model = await compileModel({ path: goldenFolder("lm-infinite"), precision, device: "cuda", cacheRoot });
  using runner = new Runner(model, { window: 32, threads: 1, device });
  retrievalDifferences(runner, true); // graphs that retrieve are loaded when they are first run
  return runner.hostNodes;
}
