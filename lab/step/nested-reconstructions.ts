import type { Value } from "../../models/onnx/graph.js";
import type { StepConfig } from "./step-config.js";
import type { StepGraphBuilder } from "./step-graph.js";

/** Features that each level adds: those of Matryoshka widths w1 < w2 < ... are w1, w2 - w1, ...; without widths there is one level. */
export function levelSizes({ dSae, activation }: Pick<StepConfig, "dSae" | "activation">): readonly number[] {
  const widths = activation.kind === "batch-topk" ? (activation.widths ?? []) : [];
  const ends = [...widths.filter((width) => width < dSae), dSae];
  return ends.map((end, level) => end - (ends[level - 1] ?? 0));
}

/**
 * The reconstructions of the first w1, the first w2, ... and of all features, and their gradients. A level's features are part of
 * its own reconstruction and of those of all levels behind it, so their gradient is the sum of these. Bussmann et al. 2025,
 * arXiv 2503.17547; the losses are added up as in SAELens, sae_lens/saes/matryoshka_batchtopk_sae.py.
 */
export class NestedReconstructions {
  readonly #sizes: readonly number[];
  readonly #kept: readonly Value[];
  readonly #rows: readonly Value[];
  /** Reconstruction less input of each level, [batch, dIn]. */
  readonly #errors: readonly Value[];
  /** Of the reconstructions of a level and all behind it. */
  #gradients: readonly Value[] = [];

  /** @param kept [batch, dSae] @param rows of W_dec @param input [batch, dIn] */
  constructor(
    readonly step: StepGraphBuilder,
    { kept, rows, bias, input }: Readonly<Record<"kept" | "rows" | "bias" | "input", Value>>,
  ) {
    const { graph, config } = step;
    this.#sizes = levelSizes(config);
    const isNested = this.#sizes.length > 1;
    this.#kept = isNested ? graph.split(kept, 1, this.#sizes) : [kept];
    this.#rows = isNested ? graph.split(rows, 0, this.#sizes) : [rows];
    const errors: Value[] = [];
    for (const [level, part] of this.#kept.entries()) {
      const before = errors.at(-1);
      const decoded = step.product(part, this.#rows[level]!, { c: before ?? bias });
      errors.push(before === undefined ? step.minus(decoded, input) : decoded);
    }
    this.#errors = errors;
  }

  /** Of all features. */
  get error(): Value {
    return this.#errors.at(-1)!;
  }

  /** Sum of the mean squares of the errors of all levels but the last, []; null where there is one level. */
  get innerLoss(): Value | null {
    const losses = this.#errors.slice(0, -1).map((error) => this.step.meanSquare(error));
    return losses.length === 0 ? null : losses.reduce((sum, loss) => this.step.plus(sum, loss));
  }

  /** @param share factor of the errors @param more what is added to the gradient of the last reconstruction, [batch, dIn] */
  backward(share: number, more: Value | undefined): void {
    const { step } = this;
    const gradients: Value[] = [];
    for (const error of this.#errors.toReversed()) {
      const behind = gradients[0] ?? more;
      const own = step.times(error, share);
      gradients.unshift(behind === undefined ? own : step.plus(own, behind));
    }
    this.#gradients = gradients;
  }

  /** Gradient of all reconstructions together, which b_dec is part of, [batch, dIn]. */
  get gradient(): Value {
    return this.#gradients[0]!;
  }

  /** Of the kept activations, [batch, dSae]. */
  keptGradient(): Value {
    const parts = this.#gradients.map((gradient, level) =>
      this.step.product(gradient, this.#rows[level]!, { transposed: "b" }),
    );
    return parts.length === 1 ? parts[0]! : this.step.graph.join(parts, 1);
  }

  /** Of the rows of W_dec, [dSae, dIn]. @param more what is added */
  rowGradient(more: Value | undefined): Value {
    const { step } = this;
    const [only, ...others] = this.#kept;
    const plus = more === undefined ? {} : { c: more };
    if (others.length === 0) return step.product(only!, this.gradient, { transposed: "a", ...plus });
    const parts = this.#kept.map((kept, level) => step.product(kept, this.#gradients[level]!, { transposed: "a" }));
    const joined = step.graph.join(parts, 0);
    return more === undefined ? joined : step.plus(joined, more);
  }
}
