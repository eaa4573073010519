import { readFileSync, writeFileSync } from "node:fs";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataType as DataType,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
} from "onnx-buf";
import type { CompiledGraph, CompiledModel } from "../models/compile.js";
import { tensorTypes } from "./graph-types.js";

/**
 * A model compiled in bf16, with graphs that a CPU runs, which has no bfloat16 kernels: each node computes in f32 from
 * bfloat16 numbers, and what it gives is rounded to bfloat16. That is what kernels on a GPU do but for what they round
 * inside (flash attention rounds the weights of the softmax). Weights, caches and inputs are bfloat16 itself.
 */
export function onCpu(model: CompiledModel): CompiledModel {
  return {
    ...model,
    decode: (choice) => emulated(model.decode(choice)),
    prefill: (choice) => emulated(model.prefill(choice)),
  };
}

function emulated<Interface>({ path, ...graph }: CompiledGraph<Interface>): CompiledGraph<Interface> {
  const to = path.replace(/\.onnx$/, ".on-cpu.onnx");
  writeFileSync(to, inFloat32(readFileSync(path)));
  return { ...graph, path: to };
}

/** The same graph, every bfloat16 tensor of it an f32 tensor that has been rounded. */
function inFloat32(bytes: Uint8Array): Uint8Array {
  const model = fromBinary(ModelProtoSchema, bytes);
  const { graph } = model;
  if (graph === undefined) throw new RangeError("an ONNX file without a graph");
  const types = tensorTypes(graph);
  const isHalf = (name: string) => types.get(name) === DataType.BFLOAT16;
  const wide = (name: string) => `${name}.f32`;
  const widened = [...graph.initializer, ...graph.input].filter(({ name }) => isHalf(name));
  graph.node = [
    ...widened.map(({ name }) => cast(name, wide(name), DataType.FLOAT)),
    ...graph.node.flatMap((node) => {
      const { output } = node;
      node.input = node.input.map((name) => (isHalf(name) ? wide(name) : name));
      if (node.opType === "Cast" && !isHalf(output[0] ?? "")) return [node];
      node.output = output.map((name) => (isHalf(name) ? `${name}.exact` : name));
      if (node.opType === "Cast") node.attribute = castTo(DataType.FLOAT);
      const rounded = output.filter(isHalf);
      return [
        node,
        ...rounded.flatMap((name) => [
          cast(`${name}.exact`, name, DataType.BFLOAT16),
          cast(name, wide(name), DataType.FLOAT),
        ]),
      ];
    }),
  ];
  return toBinary(ModelProtoSchema, model);
}

const castTo = (type: DataType) => [
  create(AttributeProtoSchema, { name: "to", type: AttributeType.INT, i: BigInt(type) }),
];

const cast = (from: string, to: string, type: DataType): NodeProto =>
  create(NodeProtoSchema, { name: `${to}.cast`, opType: "Cast", input: [from], output: [to], attribute: castTo(type) });
