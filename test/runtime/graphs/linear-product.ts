import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { DecodeAttention } from "../../../models/attention/decode-attention.js";
import { Forward } from "../../../models/forward.js";
import { GraphBuilder } from "../../../models/onnx/graph.js";
import type { Precision } from "../../../models/weights/block-format.js";
import { openCheckpoint } from "../../../models/weights/checkpoint.js";
import { WeightPlan } from "../../../models/weights/weight-plan.js";
import { writeWeights } from "../../../models/weights/weights-file.js";
import { Binding } from "../../../runtime/ort/binding.js";
import { Session } from "../../../runtime/ort/session.js";
import { Tensor } from "../../../runtime/ort/tensor.js";
import { openWeights } from "../../../runtime/ort/weights.js";
import { writeTensors } from "../../models/random-model.js";

/** x [rows, columns] times stacked matrices [out, columns], the way a model's layer does it. */
export async function linear(
  x: Float32Array,
  weights: readonly Float32Array[],
  columns: number,
  precision: Precision,
): Promise<Float32Array> {
  const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const tensors = weights.map((values, i) => ({
    name: `m${i}.weight`,
    shape: [values.length / columns, columns],
    values,
  }));
  writeTensors(join(folder, "model.safetensors"), tensors);
  const plan = new WeightPlan();
  const graph = new GraphBuilder();
  const input = graph.input("x", "float32", ["rows", 1, columns]);
  const attention = new DecodeAttention(graph, {
    layers: 0,
    kvHeads: 1,
    headDim: 2,
    sinks: 0,
    geometries: [],
    layerGeometries: [],
    kv: null,
  });
  const pass = new Forward(graph, plan, attention, "", null, {
    precision,
    dtypes: new Map(),
    weightsFile: "w.bin",
    taps: new Set(),
    edits: new Set(),
    hiddenSize: columns,
  });
  const parts = weights.map((values, i) => ({ name: `m${i}`, out: values.length / columns }));
  const output = graph.output(pass.linear(input, { parts, in: columns }), "float32", ["rows", 1, "out"]);
  writeFileSync(join(folder, "linear.onnx"), graph.serialize("linear"));
  using checkpoint = openCheckpoint(folder);
  await writeWeights(join(folder, "w.bin"), plan, checkpoint, () => {});

  using stored = openWeights({ path: join(folder, "w.bin"), bytes: plan.bytes, places: plan.places });
  using session = Session.load(join(folder, "linear.onnx"), {
    threads: 2,
    spin: false,
    weights: stored.tensors,
    prepack: true,
  });
  const rows = x.length / columns;
  using given = Tensor.zeros("float32", [rows, 1, columns]);
  using made = Tensor.zeros("float32", [rows, 1, parts.reduce((sum, { out }) => sum + out, 0)]);
  given.write(x);
  using binding = new Binding(session, new Map([[input, given]]), new Map([[output, made]]));
  binding.run();
  return made.read(new Float32Array(made.size));
}
