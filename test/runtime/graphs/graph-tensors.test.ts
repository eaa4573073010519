import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { GraphBuilder } from "../../../models/onnx/graph.js";
import { GraphTensors } from "../../../runtime/graphs/graph-tensors.js";
import { CPU } from "../../../runtime/ort/device.js";
import { Session } from "../../../runtime/ort/session.js";
import { Tensor } from "../../../runtime/ort/tensor.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-graph-tensors-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Puts `update` into slot `at` of each row of a buffer, in place; how many slots are summed, the host says. */
function scatterGraph() {
  const g = new GraphBuilder();
  const shape = ["rows", "slots", 2];
  const buffer = g.input("buffer", "float32", shape);
  const update = g.input("update", "float32", ["rows", 1, 2]);
  const at = g.input("at", "int64", ["rows"]);
  const end = g.hostInput("end", "int64", [1]);
  g.op("TensorScatter", [buffer, update, at], { axis: -2 }, "written");
  g.output("written", "float32", shape);
  const zero = g.constant("int64", [1], [0]);
  const one = g.constant("int64", [1], [1]);
  g.op("ReduceSum", [g.op("Slice", ["written", zero, end, one]), one], { keepdims: 0 }, "sums");
  g.output("sums", "float32", ["rows", 2]);
  const path = join(folder, "scatter.onnx");
  writeFileSync(path, g.serialize("scatter"));
  return { path, signature: g.signature };
}

const { path, signature } = scatterGraph();
const sizes = [
  ["rows", 2],
  ["slots", 3],
] as const;

test("what nobody binds is made as the graph states it, and what is bound is written in place", () => {
  using session = Session.load(path, { threads: 1 });
  using buffer = Tensor.zeros("float32", [4, 3, 2]);
  buffer.write(Float32Array.from({ length: 24 }, (_, i) => i));
  using tensors = new GraphTensors(CPU, signature, sizes);
  tensors.bindRows("buffer", buffer, 1, ["written"]);
  tensors.complete();
  tensors.write("update", [100, 200], 0);
  tensors.write("update", [300, 400], 2);
  tensors.write("at", [0, 2]);
  tensors.write("end", [3]);
  tensors.send();
  using binding = tensors.binding(session);
  binding.run();
  const sums = tensors.output("sums");
  expect([...sums.shape]).toEqual([2, 2]);
  expect([...sums.read(new Float32Array(4))]).toEqual([100 + 8 + 10, 200 + 9 + 11, 12 + 14 + 300, 13 + 15 + 400]);
  const all = [...buffer.read(new Float32Array(24))];
  expect(all.slice(0, 8)).toEqual([0, 1, 2, 3, 4, 5, 100, 200]);
  expect(all.slice(14, 20)).toEqual([14, 15, 300, 400, 18, 19]);
});

test("outputs that are left out have no tensor, and a run does without", () => {
  using session = Session.load(path, { threads: 1 });
  using tensors = new GraphTensors(CPU, signature, sizes);
  tensors.complete(["sums"]);
  expect(() => tensors.output("sums")).toThrow("nothing is bound to the output sums");
  tensors.write("update", [1, 2, 3, 4]);
  using binding = tensors.binding(session);
  binding.run();
  expect([...tensors.output("written").read(new Float32Array(2))]).toEqual([1, 2]);
});

describe("a mistake names the tensor", () => {
  test("a size that nobody says", () => {
    using tensors = new GraphTensors(CPU, signature, [["rows", 2]]);
    expect(() => tensors.complete()).toThrow("nobody says how large slots is, a size of buffer [rows,slots,2]");
  });

  test("a tensor of another shape or type, also where only the output has it", () => {
    using tensors = new GraphTensors(CPU, signature, sizes);
    const bind = (name: string, tensor: Tensor, outputs?: string[]) => () => tensors.bind(name, tensor, outputs);
    const stated = "buffer is float32[2,3,2] in the graph, not";
    expect(bind("buffer", Tensor.zeros("float32", [2, 2, 3]))).toThrow(`${stated} float32[2,2,3]`);
    expect(bind("buffer", Tensor.zeros("int32", [2, 3, 2]))).toThrow(`${stated} int32[2,3,2]`);
    const update = Tensor.zeros("float32", [2, 1, 2]);
    expect(bind("update", update, ["written"])).toThrow("written is float32[2,3,2] in the graph, not float32[2,1,2]");
  });

  test("a buffer that is not there, or has too few rows", () => {
    using tensors = new GraphTensors(CPU, signature, sizes);
    using buffer = Tensor.zeros("float32", [2, 3, 2]);
    expect(() => tensors.bindRows("buffer", undefined, 0)).toThrow("there is no buffer for buffer");
    expect(() => tensors.bindRows("buffer", buffer, 1)).toThrow(/does not fit/);
  });

  test("a name that the graph has not", () => {
    using tensors = new GraphTensors(CPU, signature, sizes);
    tensors.complete();
    expect(() => tensors.once("typo")).toThrow("the graph has no typo");
    expect(() => tensors.write("typo", [1])).toThrow("nothing is bound to the input typo");
  });
});
