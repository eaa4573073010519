import type { ModelShape } from "../model-shape.js";
import type { GraphBuilder, Value } from "../onnx/graph.js";
import { codeLimits, type KvFormat, kvScales } from "./kv-format.js";
import type { KvRanges } from "./kv-ranges.js";

/** Keys or values of one layer, or keys of several layers whose heads stand one behind the other. */
export interface KvPlace {
  readonly of: keyof KvRanges;
  readonly layers: readonly number[];
}

/**
 * Turns keys and values into codes within a graph, and back. Codes are float32, [batch, heads, tokens, headDim], until they
 * are packed into the elements of a cache. Two codes of 4 bits are one element, the first in its low half.
 */
export class KvCodes {
  constructor(
    readonly graph: GraphBuilder,
    readonly shape: Pick<ModelShape, "kvHeads" | "headDim">,
    readonly format: KvFormat,
  ) {}

  /** Codes of x [batch, heads, tokens, headDim]; what is beyond the range takes the code at its end. */
  of(x: Value, place: KvPlace): Value {
    const { graph, format } = this;
    const [least, largest] = codeLimits(format);
    const whole = graph.op("Round", [graph.op("Mul", [x, this.#table(place, "inverse")])]);
    return graph.op("Clip", [whole, this.#number(least), this.#number(largest)]);
  }

  /** The numbers that codes of one layer stand for. */
  values(codes: Value, place: KvPlace): Value {
    return this.graph.op("Mul", [codes, this.#table(place, "scale")]);
  }

  /** Scales of a layer, [kvHeads * headDim], as GroupQueryAttention takes them. */
  scales(of: keyof KvRanges, layer: number): Value {
    const scales = kvScales(this.format, of, layer);
    return this.graph.table(`${of}.${layer}.scales`, "float32", [scales.length], [...scales]);
  }

  /** Multiplies [batch, heads, tokens, headDim] of query heads by the scales of their key heads. */
  scaled(x: Value, of: keyof KvRanges, layer: number, heads: number): Value {
    const { kvHeads, headDim } = this.shape;
    const scales = kvScales(this.format, of, layer);
    const byHead = Array.from({ length: heads }, (_, head) => {
      const own = Math.floor((head * kvHeads) / heads);
      return [...scales.subarray(own * headDim, (own + 1) * headDim)];
    });
    const name = `${of}.${layer}.scales.${heads}`;
    return this.graph.op("Mul", [x, this.graph.table(name, "float32", [1, heads, 1, headDim], byHead.flat())]);
  }

  /** Packs codes into elements of a cache. */
  packed(codes: Value): Value {
    const { graph, format } = this;
    if (format.bits === 8) return graph.cast(codes, "int8");
    const raised = graph.op("Add", [codes, this.#number(8)]);
    const high = graph.op("Mul", [this.#everySecond(raised, 1), this.#number(16)]);
    return graph.cast(graph.op("Add", [this.#everySecond(raised, 0), high]), "uint8");
  }

  /** Unpacks the codes in elements of a cache. */
  unpacked(elements: Value): Value {
    const { graph, format } = this;
    const whole = graph.cast(elements, "float32");
    if (format.bits === 8) return whole;
    const high = graph.op("Floor", [graph.op("Mul", [whole, this.#number(1 / 16)])]);
    const low = graph.op("Sub", [whole, graph.op("Mul", [high, this.#number(16)])]);
    const last = graph.constant("int64", [1], [-1]);
    const pairs = [low, high].map((half) => graph.op("Unsqueeze", [half, last]));
    const joined = graph.op("Concat", pairs, { axis: -1 });
    const heads = graph.constant("int64", [4], [0, 0, -1, this.shape.headDim]);
    return graph.op("Sub", [graph.op("Reshape", [joined, heads]), this.#number(8)]);
  }

  #everySecond(x: Value, from: number): Value {
    const number = (value: number) => this.graph.constant("int64", [1], [value]);
    return this.graph.op("Slice", [x, number(from), number(this.shape.headDim), number(-1), number(2)]);
  }

  #table({ of, layers }: KvPlace, kind: "scale" | "inverse"): Value {
    const { kvHeads, headDim } = this.shape;
    const scales = layers.flatMap((layer) => [...kvScales(this.format, of, layer)]);
    const values = kind === "scale" ? scales : scales.map((scale) => 1 / scale);
    const shape = [1, layers.length * kvHeads, 1, headDim];
    return this.graph.table(`${of}.${layers.join("+")}.${kind}`, "float32", shape, values);
  }

  #number(value: number): Value {
    return this.graph.constant("float32", [], [value]);
  }
}
