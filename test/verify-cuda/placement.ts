import { compileModel } from "../../models/compile.js";
import type { HookName } from "../../models/hooks.js";
import { Runner } from "../../runtime/runner.js";
import { goldenArchitectures, goldenFolder } from "../golden-tensors.js";
import { GPU_PRECISIONS } from "./ceilings.js";
import type { Section } from "./section.js";

/** Quick: one of each way of attending, of normalising and of turning positions. */
const QUICK = ["llama", "gemma2", "gemma3_text", "gpt2", "gptj", "bloom", "falcon_alibi", "phi3_longrope", "qwen3"];

/** Nodes of the graphs through which data leaves the GPU: there should be none. */
export const placement: Section = {
  name: "placement",
  about:
    "Decode, prefill and far prefill graphs of the golden architectures, with a tap in the last layer: nodes that copy between host and GPU, or that run on the host and read more than a number or two.",
  async run(bench, findings) {
    const add = findings.table("Placement", ["golden", "type", "nodes on the host"]);
    const names = goldenArchitectures().map(({ name }) => name);
    for (const name of bench.quick ? names.filter((each) => QUICK.includes(each)) : names)
      for (const precision of GPU_PRECISIONS) {
        if (bench.expired()) {
          findings.note(`${name} in ${precision} and what comes after it was not run: the time was up.`);
          return;
        }
        const path = goldenFolder(`architectures/${name}`);
        const model = await compileModel({ path, precision, cacheRoot: bench.cacheRoot });
        const taps = new Set<HookName>(model.hooks.slice(-1));
        using runner = new Runner(model, { window: 64, threads: 1, device: bench.device, taps });
        runner.load({ window: 64, sinks: 2 });
        const nodes = runner.hostNodes.map(({ name: node, opType, reason }) => `${node} (${opType}) ${reason}`);
        add([name, precision, nodes.length === 0 ? "none" : nodes.join("; ")], {
          goal: "none",
          met: nodes.length === 0,
        });
      }
  },
};
