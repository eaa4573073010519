/** How an SAE chooses the features that it keeps, with what its training needs beside. */
export type TrainedActivation =
  | {
      readonly kind: "top-afa";
      /** Coefficient of the loss (|f| - target)^2. */
      readonly lambda: number;
      /** The target is the length of the (normalised) input, as in the authors' code, or that of the input less b_dec. */
      readonly target: "input" | "centred";
    }
  /** The k largest of each row. */
  | { readonly kind: "topk"; readonly k: number }
  /** The k batch largest of all rows of a batch. Matryoshka: the first `widths` features, rising, are to reconstruct by themselves too. */
  | { readonly kind: "batch-topk"; readonly k: number; readonly widths?: readonly number[] }
  | {
      readonly kind: "jumprelu";
      readonly l0Coefficient: number;
      /** Width of the kernel in which thresholds have a gradient. */
      readonly bandwidth: number;
    };

/** The loss of dead features: they are to reconstruct what is left. */
export interface DeadFeatures {
  /** Coefficient of the loss. */
  readonly penalty: number;
  /** A row reconstructs with this many of them at most. */
  readonly most: number;
  /** Batches without an activation after which a feature is dead. */
  readonly after: number;
}

/** What one training step computes. */
export interface StepConfig {
  /** Width of the input (d). */
  readonly dIn: number;
  /** Number of features (h). */
  readonly dSae: number;
  /** Rows of a step (B). */
  readonly batch: number;
  /** layer_norm: (x - mean) / (unbiased standard deviation + 1e-5) of each row. */
  readonly normalisation: "layer_norm" | "none";
  readonly activation: TrainedActivation;
  /** Of all but jumprelu. */
  readonly dead: DeadFeatures;
  readonly adam: AdamConfig;
}

/** Kingma and Ba 2014, arXiv 1412.6980, algorithm 1. */
export interface AdamConfig {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Gradients are scaled so that they are no longer than this together; null: they are not. */
  readonly clip: number | null;
}

/** Names and shapes of the weights that a step trains. */
export function trainedWeights({ dIn, dSae, activation }: StepConfig): ReadonlyMap<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>([
    ["W_enc", [dIn, dSae]],
    ["W_dec", [dSae, dIn]],
    ["b_dec", [dIn]],
  ]);
  return activation.kind === "jumprelu" ? shapes.set("b_enc", [dSae]).set("threshold", [dSae]) : shapes;
}
