import { TensorProto_DataType as DataType } from "onnx-buf";
import { describe, expect, it } from "vitest";
import { describeModel } from "../../models/architectures/index.js";
import { readConfig } from "../../models/config.js";
import { buildDecode, buildLens, buildPrefill, planWeights } from "../../models/graphs.js";
import { WeightPlan } from "../../models/weights/weight-plan.js";
import { goldenArchitectures, goldenFolder } from "../golden-tensors.js";
import { graphOf, tensorTypes } from "../graph-types.js";

/**
 * Types of which ONNX Runtime 1.29.0's CUDA provider has kernels (its own list, at opset 24): f float32, h float16,
 * b bfloat16, i int64. An operator without one would run on the CPU, or not at all.
 */
const CUDA_KERNELS: Readonly<Record<string, string>> = {
  Add: "f h b i",
  Attention: "f h b",
  Cast: "f h b i",
  Clip: "f h i",
  Concat: "f h b i",
  ConstantOfShape: "i",
  Div: "f h b",
  Expand: "f h b i",
  FusedMatMul: "f h b",
  Gather: "f h b i",
  Gelu: "f h b",
  Gemm: "f h b",
  Greater: "f h i",
  GreaterOrEqual: "f h i",
  Identity: "f h b i",
  LayerNormalization: "f h b",
  Less: "f h i",
  MatMul: "f h b",
  Max: "f h b i",
  Min: "f h b i",
  Mul: "f h b i",
  Or: "o",
  QuickGelu: "f h b",
  RMSNormalization: "f h b",
  Reciprocal: "f h",
  ReduceMean: "f h",
  ReduceSum: "f h b i",
  Relu: "f h b",
  Reshape: "f h b i",
  RotaryEmbedding: "f h b",
  Shape: "f h b i",
  SkipLayerNormalization: "f h b",
  SkipSimplifiedLayerNormalization: "f h b",
  Slice: "f h b i",
  Softmax: "f h b",
  Split: "f h b i",
  Sqrt: "f h b",
  Sub: "f h b i",
  Tanh: "f h b",
  TensorScatter: "f h b i",
  TopK: "f h b i",
  Transpose: "f h b i",
  Where: "f h b i",
};
const LETTER = new Map<DataType | undefined, string>([
  [DataType.FLOAT, "f"],
  [DataType.FLOAT16, "h"],
  [DataType.BFLOAT16, "b"],
  [DataType.INT64, "i"],
  [DataType.BOOL, "o"],
]);

const HALVES = [
  { precision: "f16", half: DataType.FLOAT16 },
  { precision: "bf16", half: DataType.BFLOAT16 },
] as const;
const MODELS = [
  ...goldenArchitectures().map(({ name }) => `architectures/${name}`),
  "lm-infinite",
  "lm-infinite-alibi",
];

function described(name: string, precision: "f16" | "bf16") {
  const model = describeModel(readConfig(goldenFolder(name)));
  const hooks = new Set(planWeights(model, { precision, dtypes: new Map() }).hooks);
  const none = new Set<never>();
  const plain = { precision, dtypes: new Map(), sinks: 4, taps: none, edits: none, weightsFile: "weights.bin" };
  return { model, plain, whole: { ...plain, taps: hooks, edits: hooks } };
}

describe.each(HALVES)("graphs in $precision", ({ precision, half }) => {
  it.each(MODELS)("of %s have a CUDA kernel for every node, whose floats are all of one type", (name) => {
    const { model, whole } = described(name, precision);
    const plan = new WeightPlan();
    const built = [
      buildDecode(model, plan, whole),
      buildDecode(model, plan, { ...whole, retrieval: true }),
      buildPrefill(model, plan, { ...whole, far: false }),
      buildPrefill(model, plan, { ...whole, far: true, retrieval: true }),
      buildLens(model, plan, whole),
    ];
    for (const { bytes } of built) {
      const graph = graphOf(bytes);
      const types = tensorTypes(graph);
      for (const { opType, input, output } of graph.node) {
        const data = types.get((opType === "Where" ? input[1] : input[0]) ?? "");
        expect(CUDA_KERNELS[opType]?.split(" "), opType).toContain(LETTER.get(data));
        if (opType === "Cast") continue;
        const floats = [...input, ...output].map((each) => types.get(each)).filter((type) => isFloat(type));
        expect(new Set(floats).size, `${opType} of ${input}`).toBeLessThanOrEqual(1);
      }
    }
  });

  it.each(MODELS)("of %s have caches and masks in it, and everything else that is bound in float32", (name) => {
    const { model, whole } = described(name, precision);
    const graphs = [
      buildDecode(model, new WeightPlan(), whole),
      buildDecode(model, new WeightPlan(), { ...whole, retrieval: true }),
      buildPrefill(model, new WeightPlan(), { ...whole, far: true }),
    ];
    for (const { bytes, interface: names } of graphs) {
      const graph = graphOf(bytes);
      const types = tensorTypes(graph);
      const cached = names.layers.flatMap((layer) => [layer.keys.input, layer.values.input]);
      const outputs = names.layers.flatMap(({ keys, values, rawKey }) => [
        ...("outputs" in keys ? keys.outputs : [keys.output]),
        ...("outputs" in values ? values.outputs : [values.output]),
        ...(rawKey === null ? [] : [typeof rawKey === "string" ? rawKey : rawKey.output]),
      ]);
      const sinks = names.geometries.flatMap((geometry) => geometry.sinks?.keys ?? []);
      const masks = names.geometries.flatMap(({ sinks: apart }) => (apart && "masks" in apart ? apart.masks : []));
      const archives = names.layers.flatMap((each) =>
        "archive" in each && each.archive ? [each.archive.keys, each.archive.values] : [],
      );
      const inHalf = [...cached, ...outputs, ...sinks, ...masks, ...archives].sort();
      const bound = [...graph.input, ...graph.output].map(({ name: each }) => each);
      expect(bound.filter((each) => types.get(each) === half).sort()).toEqual(inHalf);
      const casts = graph.node.filter(({ opType }) => opType === "Cast").map(({ input }) => input[0]);
      const ofInputs = casts.filter((each) => graph.input.some(({ name: input }) => input === each));
      expect(new Set(ofInputs).size, "an input is cast once, not in every layer").toBe(ofInputs.length);
    }
  });

  it("compute in float32 where embeddings, logits and scores of starting tokens need it, and nowhere else", () => {
    const { model, plain } = described("lm-infinite", precision);
    const wide = (bytes: Uint8Array) => {
      const graph = graphOf(bytes);
      const types = tensorTypes(graph);
      return graph.node
        .filter(({ output }) => output.some((each) => types.get(each) === DataType.FLOAT))
        .map(({ opType }) => opType);
    };
    const head = ["Cast", "MatMul", "Identity"];
    const plan = new WeightPlan();
    expect(wide(buildDecode(model, plan, plain).bytes)).toEqual(["Gather", ...head]);
    expect(wide(buildPrefill(model, plan, { ...plain, far: false }).bytes)).toEqual(["Gather", ...head]);
    const clamped = precision === "f16" ? ["Max"] : [];
    const sinkScores = ["Cast", "Reshape", "Cast", "Reshape", "Where", "Add", ...clamped];
    expect(wide(buildPrefill(model, plan, { ...plain, far: true }).bytes)).toEqual([
      "ConstantOfShape",
      "Gather",
      ...Array.from({ length: model.shape.layers }, () => sinkScores).flat(),
      ...head,
    ]);
  });

  it("keep their matrices in it, embeddings and output matrices in float32", () => {
    const { model, plain } = described("architectures/gpt2", precision);
    const plan = new WeightPlan();
    buildDecode(model, plan, plain);
    const wide = [...plan.places].filter(([, { type }]) => type === "float32").map(([name]) => name);
    expect(wide).toEqual(["transformer.wte.weight", "transformer.wpe.weight"]);
    const untied = described("lm-infinite", precision);
    const other = new WeightPlan();
    buildDecode(untied.model, other, untied.plain);
    const head = other.places.get("head.transposed");
    expect([head?.type, head?.bytes]).toEqual(["float32", 4 * 64 * 256]);
    const type = precision === "f16" ? "float16" : "bfloat16";
    const [first] = [...other.places].filter(([name]) => name.includes("q_proj"));
    expect(first?.[1]).toMatchObject({ type, shape: [64, 128], bytes: 2 * 64 * 128 });
  });
});

const isFloat = (type: DataType | undefined): boolean =>
  type === DataType.FLOAT || type === DataType.FLOAT16 || type === DataType.BFLOAT16;
