import type { RopeParameters } from "./rope.js";

/** How the place of a token in the text enters attention. */
export type Positions =
  /** Queries and keys are rotated (Su et al. 2021, arXiv 2104.09864) in their first `rotaryDim` dimensions. */
  | {
      readonly kind: "rotary";
      readonly rope: RopeParameters;
      readonly rotaryDim: number;
      /** Pairs are neighbours (2i, 2i + 1), as in GPT-J, not halves (i, i + rotaryDim / 2). */
      readonly interleaved?: true;
    }
  /** Scores are lowered by slope * distance, a slope per query head (Press et al. 2021, arXiv 2108.12409). */
  | { readonly kind: "alibi"; readonly slopes: readonly number[] }
  /** Not at all: the mask alone. */
  | { readonly kind: "none" };

/** What the layers of a model see of the text, and how positions enter; layers with equal geometry share their inputs. */
export interface Geometry {
  /**
   * lambda: LM-Infinite's starting tokens and window, distances limited to the window. A number: the window, tokens, that
   * these layers were trained with; they keep it, see no starting tokens, and their distances need no limit.
   */
  readonly window: "lambda" | number;
  readonly positions: Positions;
}

/** Sizes of a model that its caches, tables and requests depend on. */
export interface ModelShape {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  /** Of queries. */
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Longest text it was trained on, tokens. */
  readonly trainedLength: number;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly geometries: readonly Geometry[];
  /** For each layer, which of the geometries is its. */
  readonly layerGeometries: readonly number[];
  /** Positions that the model has learned vectors for, which no text can be longer than; null: it has none. */
  readonly learnedPositions: number | null;
  /** Modules return what their norm is applied to before it is added (Gemma 2, OLMo 2): `attn_out` and `mlp_out` are not their own output. */
  readonly postNorm: boolean;
  /**
   * Whether a residual stream plus a constant is the same to the model: everything that reads it takes its mean off first.
   * Then TransformerLens' center_writing_weights takes the mean off the stream itself. Where norms keep the mean it does
   * nothing; "partly": some take it off, but the stream is not that of the model less its mean.
   */
  readonly ignoresMean: "always" | "never" | "partly";
}
