import { create, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
  type GraphProto,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "onnx-buf";
import { narrowBF16, narrowF16 } from "../weights/half-precision.js";

/** Name of a tensor in a graph. "" stands for an optional input or output that is left out. */
export type Value = string;
export type ElementType = "float32" | "float16" | "bfloat16" | "uint8" | "int8" | "int32" | "int64" | "bool";
/** Integers become INT, other numbers need `float`, because 1 may be either. */
export type Attribute =
  | number
  | string
  | readonly number[]
  | { readonly float: number }
  | { readonly graph: GraphProto };

/** A size that a graph leaves open; tensors in whose shapes it has one name agree on it. */
export type OpenSize = string;
export type Dimension = number | OpenSize;

/** An input or output of a graph. */
export interface TensorSpec {
  readonly name: Value;
  readonly type: ElementType;
  readonly shape: readonly Dimension[];
  /** The host reads it, wherever the graph runs. */
  readonly onHost?: true;
}

/** All that a run of a graph is bound to, by name. */
export interface GraphSignature {
  readonly inputs: ReadonlyMap<Value, TensorSpec>;
  readonly outputs: ReadonlyMap<Value, TensorSpec>;
}

/** Where the bytes of a weight lie in the file beside the graph. */
export interface WeightPlace {
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly bytes: number;
}

const OPSET = 24;
/** Domain of ONNX Runtime's own operators. */
export const MICROSOFT = "com.microsoft";
export const ONNX_TYPE: Readonly<Record<ElementType, DataType>> = {
  float32: DataType.FLOAT,
  float16: DataType.FLOAT16,
  bfloat16: DataType.BFLOAT16,
  uint8: DataType.UINT8,
  int8: DataType.INT8,
  int32: DataType.INT32,
  int64: DataType.INT64,
  bool: DataType.BOOL,
};

/** What a file holds: its nodes in running order. */
export interface GraphParts {
  readonly nodes: NodeProto[];
  readonly initializers: TensorProto[];
  readonly signature: GraphSignature;
}

/** A graph as an ONNX file. */
export function modelFile(name: string, parts: GraphParts): Uint8Array {
  const graph = graphMessage(name, parts);
  const opsets = [
    create(OperatorSetIdProtoSchema, { domain: "", version: BigInt(OPSET) }),
    create(OperatorSetIdProtoSchema, { domain: MICROSOFT, version: 1n }),
  ];
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, { irVersion: 11n, producerName: "lambdatap", opsetImport: opsets, graph }),
  );
}

/** A graph, of a file or of a node's branch. */
export function graphMessage(name: string, { nodes, initializers, signature }: GraphParts): GraphProto {
  return create(GraphProtoSchema, {
    name,
    node: nodes,
    initializer: initializers,
    input: Array.from(signature.inputs.values(), valueInfo),
    output: Array.from(signature.outputs.values(), valueInfo),
  });
}

/** A tensor whose values lie in the file of the graph. */
export function constantTensor(
  name: string,
  type: ElementType,
  shape: readonly number[],
  values: readonly number[],
): TensorProto {
  return create(TensorProtoSchema, {
    name,
    dataType: ONNX_TYPE[type],
    dims: shape.map(BigInt),
    rawData: raw(type, values),
  });
}

/** A tensor whose bytes lie in `file`, beside the graph. */
export function externalTensor(name: string, place: WeightPlace, file: string): TensorProto {
  const entry = (key: string, value: string | number) =>
    create(StringStringEntryProtoSchema, { key, value: String(value) });
  return create(TensorProtoSchema, {
    name,
    dataType: ONNX_TYPE[place.type],
    dims: place.shape.map(BigInt),
    dataLocation: DataLocation.EXTERNAL,
    externalData: [entry("location", file), entry("offset", place.offset), entry("length", place.bytes)],
  });
}

/** One operator. `domain`: "" for the standard ones. */
export function nodeMessage(
  name: string,
  opType: string,
  domain: string,
  input: readonly Value[],
  output: string[],
  attributes: Readonly<Record<string, Attribute>>,
): NodeProto {
  return create(NodeProtoSchema, {
    name,
    opType,
    domain,
    input: [...input],
    output,
    attribute: attributeList(attributes),
  });
}

export function attributeList(attributes: Readonly<Record<string, Attribute>>): AttributeProto[] {
  return Object.entries(attributes).map(([name, value]) =>
    create(AttributeProtoSchema, { name, ...attributeValue(value) }),
  );
}

function attributeValue(value: Attribute) {
  if (typeof value === "number") return { type: AttributeType.INT, i: BigInt(value) };
  if (typeof value === "string") return { type: AttributeType.STRING, s: new TextEncoder().encode(value) };
  if ("float" in value) return { type: AttributeType.FLOAT, f: value.float };
  if ("graph" in value) return { type: AttributeType.GRAPH, g: value.graph };
  return { type: AttributeType.INTS, ints: value.map(BigInt) };
}

function valueInfo({ name, type, shape }: TensorSpec): ValueInfoProto {
  const dim = shape.map((d) =>
    typeof d === "string"
      ? { value: { case: "dimParam" as const, value: d } }
      : { value: { case: "dimValue" as const, value: BigInt(d) } },
  );
  return create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: "tensorType", value: { elemType: ONNX_TYPE[type], shape: { dim } } } },
  });
}

function raw(type: ElementType, values: readonly number[]): Uint8Array<ArrayBuffer> {
  if (type === "float16" || type === "bfloat16") {
    const halves = new Uint16Array(values.length);
    (type === "float16" ? narrowF16 : narrowBF16)(Float32Array.from(values), halves);
    return new Uint8Array(halves.buffer);
  }
  const typed =
    type === "float32"
      ? Float32Array.from(values)
      : type === "int64"
        ? BigInt64Array.from(values, BigInt)
        : type === "int32"
          ? Int32Array.from(values)
          : Uint8Array.from(values);
  return new Uint8Array(typed.buffer);
}
