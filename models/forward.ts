import { type Activation, activate } from "./activation.js";
import { type AttentionSizes, type LayerAttention, softcap } from "./attention/attention.js";
import {
  BATCH,
  type EditInputs,
  type PatchInputs,
  type PrefillInterface,
  type TapOutput,
  TOKENS,
  WANTED,
} from "./graph-interface.js";
import { type HookName, hook, otherName } from "./hooks.js";
import { MatrixProducts, type ProductOptions } from "./matrix-products.js";
import type { ActivationType, GraphBuilder, Value } from "./onnx/graph.js";
import { patchPoint } from "./patch-point.js";
import { editResidual } from "./residual-edit.js";
import type { CuttingSae } from "./sae/edit-cut.js";
import { inFewBits } from "./weights/block-format.js";
import type { WeightPart } from "./weights/weight-part.js";
import type { WeightPlan } from "./weights/weight-plan.js";

/** Matrices of a checkpoint that are multiplied with the same input, side by side. */
export interface Linear {
  readonly parts: readonly LinearPart[];
  readonly in: number;
  readonly bias?: boolean;
}

export interface LinearPart {
  /** Without `.weight` or `.bias`. */
  readonly name: string;
  /** Outputs of the whole matrix. */
  readonly out: number;
  /** The outputs taken, in this order, as [first, count] each; left out: all. */
  readonly rows?: WeightPart["rows"];
  /** Stored [in, out]. */
  readonly inOut?: true;
}

/** A norm's gain: its length, if it is not the hidden size, and whether it is stored as its distance from 1. */
export interface Gain {
  readonly size?: number;
  readonly plusOne?: boolean;
}

export interface ForwardOptions extends ProductOptions {
  /** Hooks to make graph outputs of. */
  readonly taps: ReadonlySet<HookName>;
  /** Hooks at which features can be edited. */
  readonly edits: ReadonlySet<HookName>;
  /** Hooks at which vectors of tokens can be replaced; default: none. */
  readonly patches?: ReadonlySet<HookName>;
  /** SAEs at those whose own cuts edits can ask for; default: none. */
  readonly cuttingSaes?: readonly CuttingSae[];
  readonly hiddenSize: number;
  /** false: none are computed, and nothing that only they need. */
  readonly logits?: false;
}

/** What is done to the rows of an embedding matrix. */
export interface Embedding {
  /** They are multiplied by it. */
  readonly scale?: number;
  /** Learned vectors [count, d] of the tokens' positions, added to them. */
  readonly positions?: { readonly name: string; readonly count: number };
}

/** The output matrix [vocab, d]; tied: it is the embedding matrix. Logits are limited to +-cap by tanh. */
export interface Unembedding {
  readonly name: string;
  readonly vocab: number;
  readonly tied: boolean;
  readonly bias?: boolean;
  readonly cap?: number | null;
}

/** How hidden values become logits: the output matrix, and the norm before it (null: none). */
export interface Head extends Unembedding {
  readonly norm: FinalNorm | null;
}

/** Place and name of a norm's gain, and whether it takes the mean off. */
interface FinalNorm {
  readonly gain: Value;
  readonly part: WeightPart;
  readonly centres: boolean;
}

/** A tensor that hooks name: as it came in, and what was done to it since. */
interface HookPlace {
  readonly arrived: Value;
  readonly patch: PatchInputs | null;
  readonly edit: EditInputs | null;
}

/**
 * A forward pass being written down: what architecture files are written in. The same calls give the decode and the
 * prefill graph; only `attention` differs. Hidden values are [batch, tokens, size], in the graph's type of activations;
 * embeddings, logits, taps and edits are float32 whatever that is.
 */
export class Forward {
  /** Every hook the architecture names. */
  readonly hooks: HookName[] = [];
  readonly taps: TapOutput[] = [];
  readonly edits: EditInputs[] = [];
  readonly patches: PatchInputs[] = [];
  /** Positions of the tokens, [batch, tokens] int64; null where no layer asked for them. */
  positions: Value | null = null;
  /** Known once `unembed` was called. */
  head: Head | null = null;
  /** Norms, by what they gave. */
  readonly #norms = new Map<Value, FinalNorm>();
  readonly #tapped = new Set<Value>();
  readonly #products: MatrixProducts;
  /** By what the pass goes on with, where that is not what came in. */
  readonly #places = new Map<Value, HookPlace>();

  constructor(
    readonly graph: GraphBuilder,
    readonly plan: WeightPlan,
    readonly attention: LayerAttention,
    readonly ids: Value,
    readonly wanted: PrefillInterface["wanted"] | null,
    readonly options: ForwardOptions,
  ) {
    this.#products = new MatrixProducts(graph, plan, options, wanted === null && options.logits !== false);
  }

  /** Rows of an embedding matrix [vocab, width]: the residual stream as it begins. */
  embed(name: string, vocab: number, width: number, { scale, positions }: Embedding = {}): Value {
    const { graph } = this;
    let rows = this.#products.rows({ tensor: `${name}.weight`, shape: [vocab, width] }, this.ids);
    if (scale !== undefined) rows = graph.op("Mul", [rows, graph.constant("float32", [1], [scale])]);
    if (positions !== undefined) {
      this.positions ??= graph.input("positions", "int64", [BATCH, TOKENS]);
      const vectors = this.#whole(`${positions.name}.weight`, [positions.count, width], "float32");
      rows = graph.add(rows, graph.op("Gather", [vectors, this.positions]));
    }
    return graph.toActivations(rows);
  }

  linear(x: Value, { parts, in: columns, bias }: Linear): Value {
    const product = this.#products.sideBySide(
      x,
      parts.map(({ name, out, rows, inOut }) => ({
        tensor: `${name}.weight`,
        shape: inOut ? [columns, out] : [out, columns],
        ...(rows ? { rows } : {}),
        ...(inOut ? { inOut } : {}),
      })),
      columns,
    );
    if (bias !== true) return product;
    const name = `${parts.map((part) => part.name).join("+")}.bias`;
    const place = this.plan.stacked(
      name,
      parts.map(({ name: of, out, rows }) => ({ tensor: `${of}.bias`, shape: [out], ...(rows ? { rows } : {}) })),
      this.graph.activations,
    );
    return this.graph.op("Add", [product, this.graph.weight(name, place, this.options.weightsFile)]);
  }

  /** Over the last axis. Zhang and Sennrich 2019, arXiv 1910.07467. */
  rmsNorm(x: Value, name: string, epsilon: number, gain: Gain = {}): Value {
    const norm = this.#gain(name, gain, false);
    return this.#remember(this.graph.rmsNorm(x, norm.gain, epsilon), norm);
  }

  /** Over the last axis. Ba et al. 2016, arXiv 1607.06450. */
  layerNorm(x: Value, name: string, epsilon: number, { bias }: { readonly bias: boolean }): Value {
    const norm = this.#gain(name, {}, true);
    const shift = bias ? this.#whole(`${name}.bias`, norm.part.shape, this.graph.activations) : null;
    return this.#remember(this.graph.layerNorm(x, norm.gain, shift, epsilon), norm);
  }

  /** Of two tensors of one shape. */
  add(a: Value, b: Value): Value {
    return this.graph.add(a, b);
  }

  /** Limits values to [-limit, limit]. */
  clip(x: Value, limit: number): Value {
    const { graph } = this;
    const bound = (value: number) => graph.constant(graph.activations, [], [value]);
    // ONNX Runtime has no Clip for bfloat16.
    if (graph.activations === "bfloat16") return graph.op("Min", [graph.op("Max", [x, bound(-limit)]), bound(limit)]);
    return graph.op("Clip", [x, bound(-limit), bound(limit)]);
  }

  /** Cuts the last axis into pieces of the given sizes. */
  split(x: Value, sizes: readonly number[]): Value[] {
    return this.graph.split(x, -1, sizes);
  }

  activate(activation: Activation, x: Value): Value {
    return activate(this.graph, activation, x);
  }

  /** activation(gate) * up (Shazeer 2020, arXiv 2002.05202). */
  gated(activation: Activation, gate: Value, up: Value): Value {
    return this.graph.op("Mul", [this.activate(activation, gate), up]);
  }

  /**
   * Names a place in the pass. If it is asked for it becomes a graph output, as it is before patches and edits, and if those
   * are, the pass goes on with the patched tensor, edited. Two names of one tensor are one output, one patch and one edit.
   */
  tap(hook: HookName, x: Value): Value {
    const { graph, options } = this;
    const { edits, patches, hiddenSize, cuttingSaes = [] } = options;
    this.hooks.push(hook);
    let left = x;
    let { arrived, patch, edit } = this.#places.get(x) ?? { arrived: x, patch: null, edit: null };
    this.#read(hook, arrived, hiddenSize);
    if (patches?.has(hook)) {
      if (patch === null) ({ patched: left, inputs: patch } = patchPoint(graph, hook, left, hiddenSize));
      this.patches.push({ ...patch, hook });
    }
    if (edits.has(hook)) {
      const saes = cuttingSaes.filter(({ hook: at }) => at === hook || at === otherName(hook));
      if (edit === null) ({ edited: left, inputs: edit } = editResidual(graph, hook, left, hiddenSize, saes));
      this.edits.push({ ...edit, hook });
    }
    if (left !== x) this.#places.set(left, { arrived, patch, edit });
    return left;
  }

  /**
   * Names what a layer's queries, keys and values are projected to, [batch, tokens, (heads + 2 kvHeads) * headDim]: queries of
   * all heads, keys of all, values of all. They can be read, not edited.
   */
  tapProjection(layer: number, { heads, kvHeads, headDim }: Omit<AttentionSizes, "scale">, x: Value): Value {
    const names = [hook.query(layer), hook.key(layer), hook.value(layer)];
    this.hooks.push(...names);
    if (!names.some((name) => this.options.taps.has(name))) return x;
    const widths = [heads, kvHeads, kvHeads].map((of) => of * headDim);
    for (const [i, part] of this.split(x, widths).entries()) this.#read(names[i]!, part, widths[i]!);
    return x;
  }

  /** Names what a layer's attention gives, [batch, tokens, heads * headDim]; likewise. */
  tapAttended(layer: number, { heads, headDim }: Omit<AttentionSizes, "scale">, x: Value): Value {
    this.hooks.push(hook.attended(layer));
    this.#read(hook.attended(layer), x, heads * headDim);
    return x;
  }

  /** Logits [wanted, vocab] of the wanted rows of normed hidden values. */
  unembed(x: Value, unembedding: Unembedding): void {
    const { graph, options } = this;
    this.head = { ...unembedding, norm: this.#norms.get(x) ?? null };
    if (options.logits === false) return;
    const rows = graph.op("Reshape", [x, graph.constant("int64", [2], [-1, options.hiddenSize])]);
    const wanted = this.wanted === null ? rows : graph.op("Gather", [rows, this.wanted]);
    const { name, vocab, bias, cap } = unembedding;
    let logits = this.#logits(graph.toFloat32(wanted), unembedding);
    if (bias) logits = graph.op("Add", [logits, this.#whole(`${name}.bias`, [vocab], "float32")]);
    if (cap) logits = softcap(graph, logits, cap);
    graph.op("Identity", [logits], {}, "logits");
    graph.output("logits", "float32", [WANTED, vocab]);
  }

  /**
   * What directions in the residual stream add to the logits: [rows, vocab], through the final norm's gain (logit lens);
   * where the norm takes the mean off, off the direction too. A bias and a limit of the logits are left out.
   */
  lens(directions: Value, { norm, ...unembedding }: Head): void {
    const { graph } = this;
    let x = directions;
    if (norm?.centres) {
      const mean = graph.op("ReduceMean", [x, graph.constant("int64", [1], [-1])], { keepdims: 1 });
      x = graph.op("Sub", [x, mean]);
    }
    if (norm) x = graph.op("Mul", [x, graph.toFloat32(this.#part(norm.gain, norm.part, graph.activations))]);
    graph.op("Identity", [this.#logits(x, unembedding)], {}, "logits");
    graph.output("logits", "float32", [WANTED, unembedding.vocab]);
  }

  /** Of rows of float32. */
  #logits(rows: Value, { name, vocab, tied }: Unembedding): Value {
    const tensor = `${name}.weight`;
    const width = this.options.hiddenSize;
    if (tied && !inFewBits(this.options.precision))
      return this.graph.op("Gemm", [rows, this.#whole(tensor, [vocab, width], "float32")], { transB: 1 });
    return this.#products.sideBySide(rows, [{ tensor, shape: [vocab, width] }], width, "head");
  }

  /** Makes a graph output of a hook that is asked for. */
  #read(name: HookName, x: Value, width: number): void {
    const { graph, options } = this;
    if (!options.taps.has(name)) return;
    const output = graph.toFloat32(x);
    if (!this.#tapped.has(output)) graph.output(output, "float32", [BATCH, TOKENS, width]);
    this.#tapped.add(output);
    this.taps.push({ hook: name, output });
  }

  #gain(name: string, { size = this.options.hiddenSize, plusOne = false }: Gain, centres: boolean): FinalNorm {
    const tensor = `${name}.weight`;
    const gain = plusOne ? `${tensor}+1` : tensor;
    const part = { tensor, shape: [size], ...(plusOne ? { plus: 1 } : {}) };
    return { gain: this.#part(gain, part, this.graph.activations), part, centres };
  }

  #remember(normed: Value, norm: FinalNorm): Value {
    this.#norms.set(normed, norm);
    return normed;
  }

  #whole(tensor: string, shape: readonly number[], type: ActivationType): Value {
    return this.#part(tensor, { tensor, shape }, type);
  }

  #part(name: string, part: WeightPart, type: ActivationType): Value {
    return this.graph.weight(name, this.plan.plain(name, part, type), this.options.weightsFile);
  }
}
