import { create, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
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
export type Dimension = number | string;
export type ElementType = "float32" | "float16" | "bfloat16" | "uint8" | "int32" | "int64" | "bool";
/** What the numbers of a forward pass are kept in. */
export type ActivationType = "float32" | "float16" | "bfloat16";
/** What a graph runs on. */
export type DeviceKind = "cpu" | "cuda";
/** Integers become INT, other numbers need `float`, because 1 may be either. */
export type Attribute = number | string | readonly number[] | { readonly float: number };

/** An input or output of a graph; a symbolic dimension is a name that inputs share. */
export interface TensorSpec {
  readonly name: Value;
  readonly type: ElementType;
  readonly shape: readonly Dimension[];
}

/** Where the bytes of a weight lie in the file beside the graph. */
export interface WeightPlace {
  readonly type: ElementType;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly bytes: number;
}

const OPSET = 24;
/** Concat brings the sizes of its inputs over where they differ. */
const BRINGS_OVER = new Set(["Concat", "GatherND"]);
/** Of more, CUDA's Concat brings the places over. */
const MOST_JOINED = 32;
const MICROSOFT = "com.microsoft";
const ONNX_TYPE: Record<ElementType, DataType> = {
  float32: DataType.FLOAT,
  float16: DataType.FLOAT16,
  bfloat16: DataType.BFLOAT16,
  uint8: DataType.UINT8,
  int32: DataType.INT32,
  int64: DataType.INT64,
  bool: DataType.BOOL,
};

/** Writes one ONNX graph (opset 24 and ONNX Runtime's com.microsoft operators), node by node, in running order. */
export class GraphBuilder {
  readonly inputs: TensorSpec[] = [];
  readonly outputs: TensorSpec[] = [];
  readonly #nodes: NodeProto[] = [];
  readonly #producer = new Map<Value, NodeProto>();
  /** Sums that no norm has been fused with yet. */
  readonly #sums = new Set<Value>();
  readonly #initializers = new Map<Value, TensorProto>();
  #recordable = true;
  /** By type and what was cast. */
  readonly #casts = new Map<string, Value>();
  #temporaries = 0;

  constructor(
    readonly activations: ActivationType = "float32",
    /** What the graph is to run on: where operators differ, it is written for this. */
    readonly device: DeviceKind = "cpu",
  ) {}

  input(name: string, type: ElementType, shape: readonly Dimension[]): Value {
    this.inputs.push({ name, type, shape });
    return name;
  }

  output(name: string, type: ElementType, shape: readonly Dimension[]): Value {
    this.outputs.push({ name, type, shape });
    return name;
  }

  /**
   * Whether a GPU may record a run and replay it. Not with operators that bring something over from memory of the host that
   * is given back after the run.
   */
  get recordable(): boolean {
    return this.#recordable;
  }

  /** A small tensor kept inside the graph file; equal ones are stored once. */
  constant(type: ElementType, shape: readonly number[], values: readonly number[]): Value {
    const name = `const_${type}_${shape.join("x")}_${values.join("_")}`;
    if (!this.#initializers.has(name)) {
      this.#initializers.set(
        name,
        create(TensorProtoSchema, {
          name,
          dataType: ONNX_TYPE[type],
          dims: shape.map(BigInt),
          rawData: raw(type, values),
        }),
      );
    }
    return name;
  }

  /** Names of the tensors kept outside the graph file. */
  get weights(): readonly Value[] {
    return [...this.#initializers].filter(([, { externalData }]) => externalData.length > 0).map(([name]) => name);
  }

  /** A tensor whose bytes lie in `file`, beside the graph. */
  weight(name: string, place: WeightPlace, file: string): Value {
    if (!this.#initializers.has(name)) {
      const entry = (key: string, value: string | number) =>
        create(StringStringEntryProtoSchema, { key, value: String(value) });
      this.#initializers.set(
        name,
        create(TensorProtoSchema, {
          name,
          dataType: ONNX_TYPE[place.type],
          dims: place.shape.map(BigInt),
          dataLocation: DataLocation.EXTERNAL,
          externalData: [entry("location", file), entry("offset", place.offset), entry("length", place.bytes)],
        }),
      );
    }
    return name;
  }

  /** Adds a node of the standard operators with one output; `name` sets that output's name. */
  op(
    opType: string,
    inputs: readonly Value[],
    attributes: Readonly<Record<string, Attribute>> = {},
    name?: string,
  ): Value {
    const output = name ?? this.#temporary();
    if (BRINGS_OVER.has(opType)) this.#recordable = false;
    this.#add(opType, "", inputs, [output], attributes);
    return output;
  }

  /** Adds a node with several outputs. */
  multi(
    opType: string,
    inputs: readonly Value[],
    outputs: number,
    attributes: Readonly<Record<string, Attribute>> = {},
  ): Value[] {
    const names = Array.from({ length: outputs }, () => this.#temporary());
    this.#add(opType, "", inputs, names, attributes);
    return names;
  }

  /** Adds a node of ONNX Runtime's own operators and returns its first output; `others` names the rest. */
  microsoft(
    opType: string,
    inputs: readonly Value[],
    attributes: Readonly<Record<string, Attribute>> = {},
    others: readonly Value[] = [],
  ): Value {
    const output = this.#temporary();
    this.#add(opType, MICROSOFT, inputs, [output, ...others], attributes);
    return output;
  }

  /** A float32 tensor in the type of the activations: itself where that is float32; cast once, however often it is asked for. */
  toActivations(x: Value): Value {
    return this.#cast(x, this.activations);
  }

  /** A tensor of activations in float32, likewise. */
  toFloat32(x: Value): Value {
    return this.#cast(x, "float32");
  }

  /**
   * Cuts an axis into pieces of the given sizes. On a GPU, Split brings the sizes of unequal pieces over in every run, from
   * memory of the host that a recorded run would read again after it was freed: there they are cut one by one.
   */
  split(x: Value, axis: number, sizes: readonly number[]): Value[] {
    if (this.device === "cpu" || sizes.every((size) => size === sizes[0]))
      return this.multi("Split", [x, this.constant("int64", [sizes.length], sizes)], sizes.length, { axis });
    const number = (value: number) => this.constant("int64", [1], [value]);
    const starts = sizes.map((_, i) => sizes.slice(0, i).reduce((sum, size) => sum + size, 0));
    return starts.map((start, i) =>
      this.op("Slice", [x, number(start), number(start + (sizes[i] ?? 0)), number(axis)]),
    );
  }

  /** Joins at most 32 tensors of one shape along an axis: unlike any other Concat, a GPU may record it. */
  join(parts: readonly Value[], axis: number, name?: string): Value {
    if (parts.length > MOST_JOINED) throw new RangeError(`${parts.length} tensors are more than ${MOST_JOINED}`);
    const output = name ?? this.#temporary();
    this.#add("Concat", "", parts, [output], { axis });
    return output;
  }

  /** Sum of two tensors of one shape. */
  add(a: Value, b: Value): Value {
    const sum = this.op("Add", [a, b]);
    this.#sums.add(sum);
    return sum;
  }

  /**
   * RMSNorm over the last axis. Where its input comes from `add`, sum and norm become one node: one pass over the data
   * instead of two; the sum keeps its name.
   */
  rmsNorm(x: Value, gain: Value, epsilon: number): Value {
    return (
      this.#fused("SkipSimplifiedLayerNormalization", x, [gain], epsilon) ??
      this.op("RMSNormalization", [x, gain], { axis: -1, epsilon: { float: epsilon } })
    );
  }

  /** Layer normalisation over the last axis, without a shift where `shift` is null; fused as `rmsNorm` is. */
  layerNorm(x: Value, gain: Value, shift: Value | null, epsilon: number): Value {
    const parameters = shift === null ? [gain] : [gain, shift];
    return (
      this.#fused("SkipLayerNormalization", x, parameters, epsilon) ??
      this.op("LayerNormalization", [x, ...parameters], { axis: -1, epsilon: { float: epsilon } })
    );
  }

  #cast(x: Value, type: ActivationType): Value {
    if (this.activations === "float32") return x;
    const key = `${type} ${x}`;
    const known = this.#casts.get(key);
    if (known !== undefined) return known;
    const cast = this.op("Cast", [x], { to: ONNX_TYPE[type] });
    this.#casts.set(key, cast);
    return cast;
  }

  #fused(opType: string, x: Value, parameters: readonly Value[], epsilon: number): Value | null {
    const sum = this.#producer.get(x);
    if (sum === undefined || !this.#sums.delete(x)) return null;
    const output = this.#temporary();
    sum.opType = opType;
    sum.domain = MICROSOFT;
    sum.input = [...sum.input, ...parameters];
    sum.output = [output, "", "", x];
    sum.attribute = attributeList({ epsilon: { float: epsilon } });
    this.#producer.set(output, sum);
    return output;
  }

  /** The graph as an ONNX file. */
  serialize(name: string): Uint8Array {
    const graph = create(GraphProtoSchema, {
      name,
      node: this.#nodes,
      initializer: [...this.#initializers.values()],
      input: this.inputs.map(valueInfo),
      output: this.outputs.map(valueInfo),
    });
    const opsets = [
      create(OperatorSetIdProtoSchema, { domain: "", version: BigInt(OPSET) }),
      create(OperatorSetIdProtoSchema, { domain: MICROSOFT, version: 1n }),
    ];
    return toBinary(
      ModelProtoSchema,
      create(ModelProtoSchema, { irVersion: 11n, producerName: "lambdatap", opsetImport: opsets, graph }),
    );
  }

  #add(
    opType: string,
    domain: string,
    input: readonly Value[],
    output: string[],
    attributes: Readonly<Record<string, Attribute>>,
  ): void {
    const node = create(NodeProtoSchema, {
      name: `${opType}_${this.#nodes.length}`,
      opType,
      domain,
      input: [...input],
      output,
      attribute: attributeList(attributes),
    });
    this.#nodes.push(node);
    for (const each of output) this.#producer.set(each, node);
  }

  #temporary(): Value {
    return `t${this.#temporaries++}`;
  }
}

function attributeList(attributes: Readonly<Record<string, Attribute>>): AttributeProto[] {
  return Object.entries(attributes).map(([name, value]) =>
    create(AttributeProtoSchema, { name, ...attributeValue(value) }),
  );
}

function attributeValue(value: Attribute) {
  if (typeof value === "number") return { type: AttributeType.INT, i: BigInt(value) };
  if (typeof value === "string") return { type: AttributeType.STRING, s: new TextEncoder().encode(value) };
  if ("float" in value) return { type: AttributeType.FLOAT, f: value.float };
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
