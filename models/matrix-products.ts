import { IntegerProducts } from "./integer-products.js";
import type { ActivationType, GraphBuilder, Value, WeightPlace } from "./onnx/graph.js";
import {
  type BlockFormat,
  blocksOf,
  heldFormat,
  inBlocks,
  inFewBits,
  PLAIN_4,
  type Precision,
  plain8,
} from "./weights/block-format.js";
import { partColumns, type WeightPart } from "./weights/weight-part.js";
import type { WeightPlan } from "./weights/weight-plan.js";

/** How the matrices of a model are kept, and where. */
export interface ProductOptions {
  readonly precision: Precision;
  /** How the checkpoint stores its tensors. */
  readonly dtypes: ReadonlyMap<string, string>;
  /** Name of the weights file, beside the graph. */
  readonly weightsFile: string;
}

/** The product with the output matrix, in f32 or blocks: its activations are rows [wanted, d] of float32, not [batch, tokens, d]. */
const HEAD = "head";

/** Products of activations with matrices of a checkpoint, in the formats that a precision gives them. */
export class MatrixProducts {
  /** Block sums of activations that several products have in common. */
  readonly #sums = new Map<string, Value>();
  readonly #integers: IntegerProducts;

  constructor(
    readonly graph: GraphBuilder,
    readonly plan: WeightPlan,
    readonly options: ProductOptions,
    /** Whether activations [batch, tokens, d] have one token in each row. */
    oneToken = false,
  ) {
    this.#integers = new IntegerProducts(graph, plan, options.weightsFile, oneToken);
  }

  /** x times matrices side by side. Parts that are kept in different formats are products of their own. */
  sideBySide(x: Value, parts: readonly WeightPart[], columns: number, as?: typeof HEAD): Value {
    const { graph, plan, options } = this;
    if (options.precision === "int8")
      return this.#integers.product(x, as === HEAD ? 2 : 3, as ?? nameOf(parts), parts, columns);
    if (!inBlocks(options.precision)) {
      const name = `${as ?? nameOf(parts)}.transposed`;
      const type: ActivationType = as === HEAD ? "float32" : graph.activations;
      return graph.op("MatMul", [x, this.#placed(name, plan.transposed(name, parts, columns, type))]);
    }
    const products: Value[] = [];
    for (let start = 0; start < parts.length; ) {
      const { format, held } = this.#format(parts[start]!, as === HEAD);
      let end = start + 1;
      while (end < parts.length && this.#format(parts[end]!, as === HEAD).held === held) end++;
      const group = parts.slice(start, end);
      products.push(this.#blockProduct(x, as === HEAD ? 2 : 3, group, columns, format, held));
      start = end;
    }
    return products.length === 1 ? products[0]! : graph.op("Concat", products, { axis: -1 });
  }

  /**
   * Rows of an embedding matrix [vocab, width]: [...ids, width] of float32. Where its own blocks are held and have no minima, they
   * are what rows are taken from, the same bytes that a product with this matrix reads; else it is kept in f32.
   */
  rows(part: WeightPart, ids: Value): Value {
    const { graph, plan, options } = this;
    const [vocab = 0, width = 0] = part.shape;
    const { format, held } = this.#format(part, true);
    if (!inFewBits(options.precision) || held === null || format.minima)
      return graph.op("Gather", [this.#placed(part.tensor, plan.plain(part.tensor, part, "float32")), ids]);
    const weight = blocksName([part], format);
    const { codes, scales } = plan.blocks(weight, [part], width, format, held);
    // GatherBlockQuantized wants codes of the rank of scales.
    const flat = plan.again(`${weight}.rows`, codes, [vocab, (width * format.bits) / 8]);
    const data = [this.#placed(`${weight}.rows`, flat), ids, this.#placed(`${weight}.scales`, scales)];
    return graph.microsoft("GatherBlockQuantized", data, {
      gather_axis: 0,
      quantize_axis: 1,
      bits: format.bits,
      block_size: format.size,
    });
  }

  #placed(name: string, place: WeightPlace): Value {
    return this.graph.weight(name, place, this.options.weightsFile);
  }

  /** How a part's matrix is kept, and the type of its own blocks if it is in these. */
  #format(part: WeightPart, head: boolean): { readonly format: BlockFormat; readonly held: string | null } {
    const { precision, dtypes } = this.options;
    const dtype = dtypes.get(part.tensor) ?? "";
    const own = part.inOut ? null : heldFormat(dtype);
    if (own !== null) return { format: own, held: dtype };
    if (precision === "q4" && !head) return { format: PLAIN_4, held: null };
    return { format: plain8(partColumns(part), this.graph.device), held: null };
  }

  #blockProduct(
    x: Value,
    rank: number,
    parts: readonly WeightPart[],
    columns: number,
    format: BlockFormat,
    held: string | null,
  ): Value {
    const { graph, plan } = this;
    const weight = blocksName(parts, format);
    const { codes, scales, minima } = plan.blocks(weight, parts, columns, format, held);
    const placed = (suffix: string, place: WeightPlace) => this.#placed(`${weight}${suffix}`, place);
    const product = graph.microsoft("MatMulNBits", [x, placed("", codes), placed(".scales", scales)], {
      K: columns,
      N: scales.shape[0] ?? 0,
      bits: format.bits,
      block_size: format.size,
      accuracy_level: 4,
    });
    if (minima === null) return product;
    const sums = this.#blockSums(x, rank, blocksOf(columns, format), format.size);
    return graph.op("Add", [product, graph.op("MatMul", [sums, placed(".minima", minima)])]);
  }

  /** Sums of the elements of each block of the last axis: [..., blocks]. */
  #blockSums(x: Value, rank: number, blocks: number, size: number): Value {
    const key = `${x}/${size}`;
    const known = this.#sums.get(key);
    if (known !== undefined) return known;
    const { graph } = this;
    const last = graph.constant("int64", [1], [-1]);
    const shape = graph.constant("int64", [rank + 1], [...new Array<number>(rank - 1).fill(0), blocks, size]);
    const sums = graph.op("ReduceSum", [graph.op("Reshape", [x, shape]), last], { keepdims: 0 });
    this.#sums.set(key, sums);
    return sums;
  }
}

const blocksName = (parts: readonly WeightPart[], { bits }: BlockFormat): string => `${nameOf(parts)}.q${bits}`;

const nameOf = (parts: readonly WeightPart[]): string => parts.map(({ tensor }) => tensor).join("+");
