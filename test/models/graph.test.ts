import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { describeModel } from "../../models/architectures/index.js";
import { readConfig } from "../../models/config.js";
import { buildDecode, buildPrefill } from "../../models/graphs.js";
import { GraphBuilder } from "../../models/onnx/graph.js";
import { WeightPlan } from "../../models/weights/weight-plan.js";
import { Binding } from "../../runtime/ort/binding.js";
import { Session } from "../../runtime/ort/session.js";
import { Tensor } from "../../runtime/ort/tensor.js";
import { goldenFolder, maxDifference } from "../golden-tensors.js";
import { graphOf } from "../graph-types.js";
import { temporaryFolder } from "./weights/write-safetensors.js";

const opTypes = (bytes: Uint8Array) => graphOf(bytes).node.map(({ opType }) => opType);

/** Runs a graph whose inputs and outputs are all [1, width]. */
function run(
  graph: GraphBuilder,
  inputs: Readonly<Record<string, readonly number[]>>,
  width: number,
): Map<string, Float32Array> {
  const path = join(temporaryFolder(), "graph.onnx");
  writeFileSync(path, graph.serialize("test"));
  using session = Session.load(path, { threads: 1 });
  const tensors = new Map(
    [...session.inputs, ...session.outputs].map((name) => [name, Tensor.zeros("float32", [1, width])]),
  );
  const some = (names: readonly string[]) => new Map([...tensors].filter(([name]) => names.includes(name)));
  for (const [name, values] of Object.entries(inputs)) tensors.get(name)?.write(values);
  {
    using binding = new Binding(session, some(session.inputs), some(session.outputs));
    binding.run();
  }
  const outputs = [...some(session.outputs)].map(
    ([name, tensor]) => [name, tensor.read(new Float32Array(width))] as const,
  );
  for (const tensor of tensors.values()) tensor[Symbol.dispose]();
  return new Map(outputs);
}

describe("RMSNorm of a sum", () => {
  const [a, b, gain] = [
    [1, -2, 3, 0.5],
    [0.25, 4, -1, 2],
    [1, 0.5, 2, -1],
  ];
  const sum = a.map((x, i) => x + (b[i] ?? 0));
  const rms = Math.sqrt(sum.reduce((total, x) => total + x * x, 0) / 4 + 1e-5);
  const normed = sum.map((x, i) => (x / rms) * (gain[i] ?? 0));

  function sumAndNorms(norms: number): { graph: GraphBuilder; outputs: string[] } {
    const graph = new GraphBuilder();
    const [x, y] = ["x", "y"].map((name) => graph.input(name, "float32", [1, 4]));
    const weight = graph.constant("float32", [4], gain);
    const h = graph.add(x ?? "", y ?? "");
    const early = graph.op("Neg", [h], {}, "early");
    const normedTwice = Array.from({ length: norms }, () => graph.op("Identity", [graph.rmsNorm(h, weight, 1e-5)]));
    const late = graph.op("Neg", [h], {}, "late");
    const outputs = [h, early, late, ...normedTwice];
    for (const name of outputs) graph.output(name, "float32", [1, 4]);
    return { graph, outputs };
  }

  it("is one node, and the sum can still be used, before and after it and as an output", () => {
    const { graph, outputs } = sumAndNorms(1);
    expect(opTypes(graph.serialize("test"))).not.toContain("Add");
    const found = run(graph, { x: a, y: b }, 4);
    const [h = "", early = "", late = "", norm = ""] = outputs;
    expect(maxDifference(found.get(h) ?? [], sum)).toBeLessThan(1e-6);
    for (const name of [early, late])
      expect(
        maxDifference(
          found.get(name) ?? [],
          sum.map((x) => -x),
        ),
      ).toBeLessThan(1e-6);
    expect(maxDifference(found.get(norm) ?? [], normed)).toBeLessThan(1e-5);
  });

  it("can be had twice", () => {
    const { graph, outputs } = sumAndNorms(2);
    const found = run(graph, { x: a, y: b }, 4);
    for (const norm of outputs.slice(3)) expect(maxDifference(found.get(norm) ?? [], normed)).toBeLessThan(1e-5);
  });

  it("is the ordinary norm of anything that is no sum", () => {
    const graph = new GraphBuilder();
    const x = graph.input("x", "float32", [1, 4]);
    const norm = graph.output(graph.rmsNorm(x, graph.constant("float32", [4], gain), 1e-5), "float32", [1, 4]);
    expect(maxDifference(run(graph, { x: sum }, 4).get(norm) ?? [], normed)).toBeLessThan(1e-5);
  });
});

describe("a graph file", () => {
  const model = describeModel(readConfig(goldenFolder("lm-infinite")));
  const options = {
    sinks: 4,
    precision: "q8-block" as const,
    dtypes: new Map(),
    taps: new Set<never>(),
    edits: new Set<never>(),
    weightsFile: "weights.bin",
  };
  const build = {
    decode: () => buildDecode(model, new WeightPlan(), options),
    prefill: () => buildPrefill(model, new WeightPlan(), { ...options, far: true }),
  };

  it.each(["decode", "prefill"] as const)(
    "%s has the same bytes whenever it is built, so its name in the cache stays",
    (phase) => {
      const [first, second] = [build[phase](), build[phase]()];
      expect(Buffer.from(first.bytes).equals(second.bytes)).toBe(true);
      expect(first.interface).toEqual(second.interface);
    },
  );

  it.each(["decode", "prefill"] as const)("%s has every name of its interface, and no name twice", (phase) => {
    const built = build[phase]();
    const graph = graphOf(built.bytes);
    const made = [...graph.input.map(({ name }) => name), ...graph.node.flatMap(({ output }) => output)];
    const initializers = graph.initializer.map(({ name }) => name);
    const names = [...made.filter((name) => name !== ""), ...initializers];
    expect(new Set(names).size).toBe(names.length);
    const { signature, ids, logits, geometries, layers } = built.interface;
    expect([...signature.inputs.keys()]).toEqual(graph.input.map(({ name }) => name));
    expect([...signature.outputs.keys()]).toEqual(graph.output.map(({ name }) => name));
    const sinkKeys = geometries.map(({ sinks }) => sinks?.keys);
    for (const name of [ids, logits, ...sinkKeys, ...layers.map(({ keys }) => keys.input)])
      expect(names).toContain(name);
  });

  it("stores equal constants once, and different ones apart", () => {
    const graph = new GraphBuilder();
    const names = [
      graph.constant("int64", [2], [1, 2]),
      graph.constant("int64", [2], [1, 2]),
      graph.constant("int64", [1, 2], [1, 2]),
      graph.constant("float32", [2], [1, 2]),
      graph.constant("int64", [2], [12, 0]),
    ];
    expect(new Set(names).size).toBe(4);
    expect(graphOf(graph.serialize("test")).initializer).toHaveLength(4);
  });

  it("holds no weight itself: they lie in the file beside it", () => {
    for (const { bytes } of [build.decode(), build.prefill()]) {
      const initializers = graphOf(bytes).initializer;
      const inside = initializers.filter(({ externalData }) => externalData.length === 0);
      expect(inside.reduce((sum, { rawData }) => sum + rawData.length, 0)).toBeLessThan(2_000);
      const location = initializers.flatMap(({ externalData }) =>
        externalData.filter(({ key }) => key === "location").map(({ value }) => value),
      );
      expect(new Set(location)).toEqual(new Set(["weights.bin"]));
    }
  });
});
