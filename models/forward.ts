import type { LayerAttention } from "./attention.js";
import type { EditInputs, PrefillInterface, TapOutput } from "./graph-interface.js";
import type { HookName } from "./hooks.js";
import type { GraphBuilder, Value } from "./onnx/graph.js";
import { editResidual } from "./residual-edit.js";
import type { Precision, WeightPlan } from "./weight-plan.js";

/** Matrices of a checkpoint that are multiplied with the same input, side by side. */
export interface Linear {
  /** Their names without `.weight` or `.bias`, and their output sizes. */
  readonly parts: readonly { readonly name: string; readonly out: number }[];
  readonly in: number;
  readonly bias?: boolean;
}

export interface ForwardOptions {
  readonly precision: Precision;
  /** Name of the weights file, beside the graph. */
  readonly weightsFile: string;
  /** Hooks to make graph outputs of. */
  readonly taps: ReadonlySet<HookName>;
  /** Hooks at which features can be edited. */
  readonly edits: ReadonlySet<HookName>;
  readonly hiddenSize: number;
}

/** How hidden values become logits: the gain of the norm before it (null: none), and the output matrix [vocab, d]. */
export interface Head {
  readonly gain: string | null;
  readonly name: string;
  readonly vocab: number;
  readonly tied: boolean;
}

/**
 * A forward pass being written down: what architecture files are written in. The same calls give the decode and the
 * prefill graph; only `attention` differs. Hidden values are [batch, tokens, size].
 */
export class Forward {
  /** Every hook the architecture names. */
  readonly hooks: HookName[] = [];
  readonly taps: TapOutput[] = [];
  readonly edits: EditInputs[] = [];
  /** The output matrix, known once `unembed` was called. */
  head: Head | null = null;
  /** Gains of norms, by what the norm gave. */
  readonly #gains = new Map<Value, string>();
  readonly #tapped = new Set<Value>();
  /** Edited tensors, and what they were before. */
  readonly #edited = new Map<Value, { readonly from: Value; readonly inputs: EditInputs }>();

  constructor(
    readonly graph: GraphBuilder,
    readonly plan: WeightPlan,
    readonly attention: LayerAttention,
    readonly ids: Value,
    readonly wanted: PrefillInterface["wanted"] | null,
    readonly options: ForwardOptions,
  ) {}

  /** Rows of an embedding matrix [vocab, width]. */
  embed(name: string, vocab: number, width: number): Value {
    return this.graph.op("Gather", [this.#plain(`${name}.weight`, [vocab, width]), this.ids]);
  }

  linear(x: Value, { parts, in: columns, bias }: Linear): Value {
    const product = this.#product(
      x,
      parts.map(({ name, out }) => ({ tensor: `${name}.weight`, shape: [out, columns] })),
      columns,
    );
    if (bias !== true) return product;
    const name = parts.map((part) => part.name).join("+");
    const place = this.plan.stacked(
      `${name}.bias`,
      parts.map((part) => ({ tensor: `${part.name}.bias`, shape: [part.out] })),
    );
    return this.graph.op("Add", [product, this.graph.weight(`${name}.bias`, place, this.options.weightsFile)]);
  }

  rmsNorm(x: Value, name: string, epsilon: number): Value {
    const gain = `${name}.weight`;
    const normed = this.graph.rmsNorm(x, this.#plain(gain, [this.options.hiddenSize]), epsilon);
    this.#gains.set(normed, gain);
    return normed;
  }

  add(a: Value, b: Value): Value {
    return this.graph.add(a, b);
  }

  /** Cuts the last axis into pieces of the given sizes. */
  split(x: Value, sizes: readonly number[]): Value[] {
    return this.graph.multi("Split", [x, this.graph.constant("int64", [sizes.length], sizes)], sizes.length, {
      axis: -1,
    });
  }

  /** silu(gate) * up (Shazeer 2020, arXiv 2002.05202). QuickGelu with alpha 1 is silu. */
  swiglu(gate: Value, up: Value): Value {
    return this.graph.op("Mul", [this.graph.microsoft("QuickGelu", [gate], { alpha: { float: 1 } }), up]);
  }

  /**
   * Names a place in the pass. If it is asked for it becomes a graph output, as it is before edits, and if edits are, the
   * pass goes on with the edited tensor. Two names of one tensor are one output and one edit.
   */
  tap(hook: HookName, x: Value): Value {
    const { graph, options } = this;
    const { taps, edits, hiddenSize } = options;
    this.hooks.push(hook);
    const before = this.#edited.get(x);
    const unedited = before?.from ?? x;
    if (taps.has(hook)) {
      if (!this.#tapped.has(unedited)) graph.output(unedited, "float32", ["batch", "tokens", hiddenSize]);
      this.#tapped.add(unedited);
      this.taps.push({ hook, output: unedited });
    }
    if (!edits.has(hook)) return x;
    if (before) {
      this.edits.push({ ...before.inputs, hook });
      return x;
    }
    const { edited, inputs } = editResidual(graph, hook, x, hiddenSize);
    this.edits.push(inputs);
    this.#edited.set(edited, { from: x, inputs });
    return edited;
  }

  /** Logits [wanted, vocab] of the wanted rows of normed hidden values; tied: with the embedding matrix `name`. */
  unembed(x: Value, name: string, vocab: number, tied: boolean): void {
    const { graph, options } = this;
    const rows = graph.op("Reshape", [x, graph.constant("int64", [2], [-1, options.hiddenSize])]);
    const wanted = this.wanted === null ? rows : graph.op("Gather", [rows, this.wanted]);
    this.head = { gain: this.#gains.get(x) ?? null, name, vocab, tied };
    this.#logits(wanted, this.head);
  }

  /** What directions in the residual stream do to the logits: [rows, vocab], through the final norm's gain (logit lens). */
  lens(directions: Value, head: Head): void {
    const { graph, options } = this;
    const gain = head.gain === null ? null : this.#plain(head.gain, [options.hiddenSize]);
    this.#logits(gain === null ? directions : graph.op("Mul", [directions, gain]), head);
  }

  #logits(rows: Value, { name, vocab, tied }: Head): void {
    const { graph, options } = this;
    const tensor = `${name}.weight`;
    const width = options.hiddenSize;
    if (tied && options.precision === "f32")
      graph.op("Gemm", [rows, this.#plain(tensor, [vocab, width])], { transB: 1 }, "logits");
    else graph.op("Identity", [this.#product(rows, [{ tensor, shape: [vocab, width] }], width, "head")], {}, "logits");
    graph.output("logits", "float32", ["wanted", vocab]);
  }

  #plain(tensor: string, shape: readonly number[]): Value {
    return this.graph.weight(tensor, this.plan.plain(tensor, shape), this.options.weightsFile);
  }

  #product(
    x: Value,
    parts: readonly { tensor: string; shape: readonly number[] }[],
    columns: number,
    as?: string,
  ): Value {
    const { graph, plan, options } = this;
    const name = as ?? parts.map((part) => part.tensor).join("+");
    if (options.precision === "f32") {
      const place = plan.transposed(`${name}.transposed`, parts, columns);
      return graph.op("MatMul", [x, graph.weight(`${name}.transposed`, place, options.weightsFile)]);
    }
    const { data, scales } = plan.quantised(`${name}.q8`, parts, columns);
    const weight = (suffix: string, place: typeof data) =>
      graph.weight(`${name}.q8${suffix}`, place, options.weightsFile);
    const attributes = { K: columns, N: scales.shape[0] ?? 0, bits: 8, block_size: 32, accuracy_level: 4 };
    return graph.microsoft("MatMulNBits", [x, weight("", data), weight(".scales", scales)], attributes);
  }
}
