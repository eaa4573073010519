import type { GraphBuilder, Value } from "./onnx/graph.js";
import { foldedRows } from "./weights/quantise-channels.js";
import type { WeightPart } from "./weights/weight-part.js";
import type { WeightPlan } from "./weights/weight-plan.js";

/** Steps between the smallest and the largest byte. */
const STEPS = 255;
/** Divides a row of zeros. */
const SMALLEST_SCALE = 1e-30;

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
 * takes a single zero point: it is folded into the weights, see `quantiseChannels`. One row could do with DynamicQuantizeLinear in
 * place of most of these nodes, but that saves 0.2 to 0.6 ms of the 11.3, so that all graphs are written alike.
 */
export class IntegerProducts {
  /** By what was quantised: products with the same activations share it. */
  readonly #quantised = new Map<Value, QuantisedRows>();

  constructor(
    readonly graph: GraphBuilder,
    readonly plan: WeightPlan,
    readonly weightsFile: string,
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
    const number = (value: number) => graph.constant("float32", [], [value]);
    const folded = foldedRows(columns);
    // Zeros behind a row become its zero point, and let its range hold zero.
    const padded = graph.op("Pad", [x, list(0, folded), "", list(-1)]);
    const lowest = graph.op("ReduceMin", [padded, list(-1)]);
    const range = graph.op("Sub", [graph.op("ReduceMax", [padded, list(-1)]), lowest]);
    const scale = graph.op("Max", [graph.op("Div", [range, number(STEPS)]), number(SMALLEST_SCALE)]);
    const flat = (value: Value, ...shape: number[]) => graph.op("Reshape", [value, list(...shape)]);
    const scales = flat(scale, -1);
    const zeros = graph.op("QuantizeLinear", [flat(graph.op("Neg", [lowest]), -1), scales], { axis: 0 });
    const rows = rank === 2 ? padded : flat(padded, -1, columns + folded);
    // Scales of blocks as long as a row need no other shape, but take 2.6 times as long from 256 rows on.
    const quantised = graph.op("QuantizeLinear", [rows, scales, zeros], { axis: 0 });
    const bytes = rank === 2 ? quantised : graph.op("Reshape", [quantised, graph.op("Shape", [padded])]);
    // Of no rows, as where no logits are wanted, ORT's reductions keep the last axis as long as it was.
    const found = { bytes, scale: rank === 2 ? flat(scale, -1, 1) : scale };
    this.#quantised.set(x, found);
    return found;
  }
}
