import { fromBinary } from "@bufbuild/protobuf";
import { TensorProto_DataType as DataType, type GraphProto, ModelProtoSchema, type NodeProto } from "onnx-buf";

/** The graph of an ONNX file. */
export function graphOf(bytes: Uint8Array): GraphProto {
  const { graph } = fromBinary(ModelProtoSchema, bytes);
  if (graph === undefined) throw new RangeError("an ONNX file without a graph");
  return graph;
}

/** The element type of every tensor of a graph, for the operators that our graphs are made of. */
export function tensorTypes({ input, initializer, node }: GraphProto): Map<string, DataType> {
  const types = new Map<string, DataType>(initializer.map(({ name, dataType }) => [name, dataType]));
  for (const { name, type } of input)
    types.set(name, type?.value.case === "tensorType" ? type.value.value.elemType : DataType.UNDEFINED);
  for (const each of node)
    for (const [i, name] of each.output.entries()) if (name !== "") types.set(name, outputType(each, i, types));
  return types;
}

function outputType(node: NodeProto, output: number, types: ReadonlyMap<string, DataType>): DataType {
  const of = (i: number) => types.get(node.input[i] ?? "") ?? DataType.UNDEFINED;
  switch (node.opType) {
    case "Cast":
      return Number(node.attribute.find(({ name }) => name === "to")?.i);
    case "Shape":
      return DataType.INT64;
    case "ConstantOfShape":
      return DataType.FLOAT;
    case "Greater":
    case "GreaterOrEqual":
    case "Less":
      return DataType.BOOL;
    case "Where":
      return of(1);
    case "TopK":
      return output === 0 ? of(0) : DataType.INT64;
    default:
      return of(0);
  }
}
