import type { GraphBuilder, Value } from "./onnx/graph.js";
import { foldedRows } from "./weights/quantise-channels.js";
import type { WeightPart } from "./weights/weight-part.js";
import type { WeightPlan } from "./weights/weight-plan.js";

/** Steps between the smallest and the largest byte. */
const STEPS = 255;

/** Rows of bytes u with z behind them, u - z = a / scale. */
interface QuantisedRows {
  /** [..., columns + folded] of uint8 */
  readonly bytes: Value;
  /** [..., 1] of float32 */
  readonly scale: Value;
}

/**
 * Products of integers: weights have 8 bits and a scale for each output, activations 8 bits and a scale and zero point for each
 * row. All sums are of integers, so a row has the same bits in every batch, and in prefill and decode.
 *
 * ONNX Runtime's kernels for these (MatMulIntegerToFloat) grow with the rows where MatMulNBits hardly does, because they add
 * four products of bytes at once over the whole length of a row and scale the sum once, not every block of it. SmolLM2-135M's
 * products on an EPYC with AVX-512 VNNI, one thread, beside blocks of 32: 1 row 11.3 ms against 9.3, 4 rows 13.1 against 14.2,
 * 16 rows 21 against 37, 64 rows 59 against 128. Weights must be packed: with matrices as they lie one row takes 18 ms.
 *
 * DynamicQuantizeMatMul would take one scale for all rows of a batch. QuantizeLinear takes one for each row, but the product
 * takes a single zero point: it is folded into the weights, see `quantiseChannels`. Over one row the small nodes around the
 * products, some 2 us each, take what the products win: these take 12.0 ms in a profile of a step, those of blocks 13.5.
 */
export class IntegerProducts {
  /** By what was quantised: products with the same activations share it. */
  readonly #quantised = new Map<Value, QuantisedRows>();

  constructor(
    readonly graph: GraphBuilder,
    readonly plan: WeightPlan,
    readonly weightsFile: string,
    /** Whether x [batch, tokens, columns] has one token in each row: a graph that decodes takes 5 nodes less for it. */
    readonly oneToken: boolean,
  ) {}

  /** x times matrices side by side. x [..., columns] of float32 has `rank` axes. */
  product(x: Value, rank: 2 | 3, name: string, parts: readonly WeightPart[], columns: number): Value {
    const { graph, plan } = this;
    const weight = `${name}.int8`;
    const { codes, scales } = plan.channels(weight, parts, columns);
    const { bytes, scale } = this.#rows(x, rank, columns);
    const product = graph.microsoft("MatMulIntegerToFloat", [
      bytes,
      graph.weight(weight, codes, this.weightsFile),
      graph.constant("float32", [1], [1]),
      graph.weight(`${weight}.scales`, scales, this.weightsFile),
    ]);
    return graph.op("Mul", [product, scale]);
  }

  #rows(x: Value, rank: 2 | 3, columns: number): QuantisedRows {
    const known = this.#quantised.get(x);
    if (known !== undefined) return known;
    const { graph } = this;
    const list = (...values: number[]) => graph.constant("int64", [values.length], values);
    const shaped = (value: Value, ...shape: number[]) => graph.op("Reshape", [value, list(...shape)]);
    const folded = foldedRows(columns);
    // Zeros behind a row become its zero point, and let its range hold zero.
    const padded = graph.op("Pad", [x, list(0, folded), "", list(-1)]);
    // QuantizeLinear takes scales along one axis. Those of blocks as long as a row would fit any shape, but take 2.6 times as long
    // over 256 rows.
    const isFlat = rank === 2 || this.oneToken;
    const rows = isFlat ? padded : shaped(padded, -1, columns + folded);
    const within = isFlat && rank === 3 ? list(1, 2) : list(1);
    const lowest = graph.op("ReduceMin", [rows, within], { keepdims: 0 });
    const range = graph.op("Sub", [graph.op("ReduceMax", [rows, within], { keepdims: 0 }), lowest]);
    // Of a row of zeros it is 0, and whatever the bytes then are, they are multiplied with it.
    const scale = graph.op("Div", [range, graph.constant("float32", [], [STEPS])]);
    const zero = graph.op("QuantizeLinear", [graph.op("Neg", [lowest]), scale], { axis: 0 });
    const quantised = graph.op("QuantizeLinear", [rows, scale, zero], { axis: 0 });
    const found = isFlat
      ? { bytes: quantised, scale: shaped(scale, -1, ...new Array<number>(rank - 1).fill(1)) }
      : this.#unflattened(quantised, scale, padded);
    this.#quantised.set(x, found);
    return found;
  }

  /** Rows and their scales in the shape that the rows had. */
  #unflattened(bytes: Value, scale: Value, before: Value): QuantisedRows {
    const { graph } = this;
    const shape = graph.op("Shape", [before]);
    const outer = graph.op("Shape", [before], { start: 0, end: 2 });
    const column = graph.op("Concat", [outer, graph.constant("int64", [1], [1])], { axis: 0 });
    return { bytes: graph.op("Reshape", [bytes, shape]), scale: graph.op("Reshape", [scale, column]) };
  }
}
