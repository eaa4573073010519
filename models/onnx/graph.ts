import type { NodeProto, TensorProto } from "onnx-buf";
import {
  type Attribute,
  attributeList,
  constantTensor,
  type Dimension,
  type ElementType,
  externalTensor,
  type GraphParts,
  type GraphSignature,
  graphMessage,
  MICROSOFT,
  modelFile,
  nodeMessage,
  ONNX_TYPE,
  type OpenSize,
  type TensorSpec,
  type Value,
  type WeightPlace,
} from "./messages.js";

export type { Attribute, Dimension, ElementType, GraphSignature, OpenSize, TensorSpec, Value, WeightPlace };

/** What the numbers of a forward pass are kept in. */
export type ActivationType = "float32" | "float16" | "bfloat16";
/** What a graph runs on. */
export type DeviceKind = "cpu" | "cuda";
/** Concat brings the sizes of its inputs over where they differ. */
const BRINGS_OVER = new Set(["Concat", "GatherND"]);
/** Of more, CUDA's Concat brings the places over. */
const MOST_JOINED = 32;

/** Writes one branch of a graph. */
type Branch = (branch: GraphBuilder) => Value;

/** Writes one ONNX graph (opset 24 and ONNX Runtime's com.microsoft operators), node by node, in running order. */
export class GraphBuilder {
  readonly #inputs = new Map<Value, TensorSpec>();
  readonly #outputs = new Map<Value, TensorSpec>();
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
    /** Before the names of what the graph makes: those of a branch must differ from those of the graph around it. */
    readonly prefix = "",
  ) {}

  input(name: string, type: ElementType, shape: readonly Dimension[]): Value {
    this.#inputs.set(name, { name, type, shape });
    return name;
  }

  /** An input that stays in memory of the host, which reads it to know what is to be run. */
  hostInput(name: string, type: ElementType, shape: readonly Dimension[]): Value {
    this.#inputs.set(name, { name, type, shape, onHost: true });
    return name;
  }

  output(name: string, type: ElementType, shape: readonly Dimension[]): Value {
    this.#outputs.set(name, { name, type, shape });
    return name;
  }

  get signature(): GraphSignature {
    return { inputs: this.#inputs, outputs: this.#outputs };
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
    const name = `${this.prefix}const_${type}_${shape.join("x")}_${values.join("_")}`;
    if (!this.#initializers.has(name)) {
      this.#initializers.set(name, constantTensor(name, type, shape, values));
    }
    return name;
  }

  /** The same under the name it is given. Its values are not compared, so that there may be many. */
  table(name: string, type: ElementType, shape: readonly number[], values: readonly number[]): Value {
    if (!this.#initializers.has(name)) this.#initializers.set(name, constantTensor(name, type, shape, values));
    return name;
  }

  /** Names of the tensors kept outside the graph file. */
  get weights(): readonly Value[] {
    return [...this.#initializers].filter(([, { externalData }]) => externalData.length > 0).map(([name]) => name);
  }

  /** A tensor whose bytes lie in `file`, beside the graph. */
  weight(name: string, place: WeightPlace, file: string): Value {
    if (!this.#initializers.has(name)) this.#initializers.set(name, externalTensor(name, place, file));
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

  /**
   * A value that is computed by `then` where `condition` (bool [1], on the host) holds, else by `otherwise`; the other one is
   * not run. Both write a graph of their own, which sees all values of this one.
   */
  when(condition: Value, { type, shape }: Omit<TensorSpec, "name">, then: Branch, otherwise: Branch): Value {
    this.#recordable = false;
    const written = (name: string, write: Branch): Attribute => {
      const branch = new GraphBuilder(this.activations, this.device, `${this.prefix}${name}${this.#nodes.length}_`);
      branch.output(branch.op("Identity", [write(branch)]), type, shape);
      return { graph: graphMessage(name, branch.#parts) };
    };
    return this.op("If", [condition], {
      then_branch: written("then", then),
      else_branch: written("else", otherwise),
    });
  }

  /** A tensor in another type. */
  cast(x: Value, type: ElementType): Value {
    return this.op("Cast", [x], { to: ONNX_TYPE[type] });
  }

  /** A float32 tensor in the type of the activations: itself where that is float32; cast once, however often it is asked for. */
  toActivations(x: Value): Value {
    return this.#castOnce(x, this.activations);
  }

  /** A tensor of activations in float32, likewise. */
  toFloat32(x: Value): Value {
    return this.#castOnce(x, "float32");
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

  #castOnce(x: Value, type: ActivationType): Value {
    if (this.activations === "float32") return x;
    const key = `${type} ${x}`;
    const known = this.#casts.get(key);
    if (known !== undefined) return known;
    const cast = this.cast(x, type);
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
    return modelFile(name, this.#parts);
  }

  get #parts(): GraphParts {
    return { nodes: this.#needed(), initializers: [...this.#initializers.values()], signature: this.signature };
  }

  /** Nodes that an output depends on. */
  #needed(): NodeProto[] {
    const read = new Set<Value>(this.#outputs.keys());
    const needed = this.#nodes.toReversed().filter((node) => {
      if (!node.output.some((output) => read.has(output))) return false;
      for (const input of inputsOf(node)) read.add(input);
      return true;
    });
    return needed.reverse();
  }

  #add(
    opType: string,
    domain: string,
    input: readonly Value[],
    output: string[],
    attributes: Readonly<Record<string, Attribute>>,
  ): void {
    const node = nodeMessage(`${opType}_${this.#nodes.length}`, opType, domain, input, output, attributes);
    this.#nodes.push(node);
    for (const each of output) this.#producer.set(each, node);
  }

  #temporary(): Value {
    return `${this.prefix}t${this.#temporaries++}`;
  }
}

/** What a node reads, and what the nodes of its branches do. */
const inputsOf = ({ input, attribute }: NodeProto): Value[] => [
  ...input,
  ...attribute.flatMap(({ g }) => g?.node.flatMap(inputsOf) ?? []),
];
