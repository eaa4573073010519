import type { HookName } from "./hooks.js";
import type { Value } from "./onnx/graph.js";
import type { RopeParameters } from "./rope.js";

/** What the layers of a model see of the text, and how positions enter; layers with equal geometry share their inputs. */
export interface Geometry {
  /** LM-Infinite: the starting tokens and a window, distances limited to the window. */
  readonly kind: "lambda";
  readonly rope: RopeParameters;
  /** Rotated dimensions of a head. */
  readonly rotaryDim: number;
}

/** Sizes of a model that its caches, tables and requests depend on. */
export interface ModelShape {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Longest text it was trained on, tokens. */
  readonly trainedLength: number;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly geometries: readonly Geometry[];
}

/** Rotary tables: two inputs [batch, n, rotaryDim / 2] for n positions. */
export interface RotaryInputs {
  readonly cos: Value;
  readonly sin: Value;
}

/** What a chunk needs to score the starting tokens apart. */
export interface SinkScoreInputs {
  /** Query heads, which the mask has an entry for. */
  readonly heads: number;
  /** The queries at distance W, and the starting tokens at their own positions. */
  readonly farQuery: RotaryInputs;
  readonly nearSinks: RotaryInputs;
  /** [batch, 1, tokens, sinks] bool: the token is within W of the starting token. */
  readonly near: Value;
  /** [batch, 1, tokens, sinks], added to these scores: hides starting tokens that are not in the cache yet. */
  readonly hidden: Value;
}

export interface TapOutput {
  readonly hook: HookName;
  /** [batch, tokens, hiddenSize]. */
  readonly output: Value;
}

/** Inputs through which features are edited at a hook; a row without an edit has zeros. */
export interface EditInputs {
  readonly hook: HookName;
  /** [batch, hiddenSize, edits] encoder columns; centred (minus their mean) where the normalisation takes the mean off. */
  readonly encoder: Value;
  /** [batch, edits, hiddenSize] decoder rows. */
  readonly decoder: Value;
  /** [batch, 3, edits]: 1 where the SAE's normalisation is EDIT_NORMALISATIONS[i], else 0. */
  readonly normalisation: Value;
  /** [batch, 6, edits], see EDIT_PARAMETERS. */
  readonly parameters: Value;
}

interface Names {
  /** [batch, tokens] int64. */
  readonly ids: Value;
  /** [wanted, vocabSize]. */
  readonly logits: Value;
  /** Unrotated keys of the starting tokens, [batch, layers * kvHeads, sinks, headDim]; null without sinks. */
  readonly sinkKeys: Value | null;
  readonly taps: readonly TapOutput[];
  /** Hooks that are one tensor share their inputs. */
  readonly edits: readonly EditInputs[];
}

/** Names of the decode graph: one token per row; keys and values are written into the cache in place. */
export interface DecodeInterface extends Names {
  readonly phase: "decode";
  readonly geometries: readonly {
    /** The token's own position. */
    readonly rotary: RotaryInputs;
    /** Where each starting token stands now. */
    readonly sinkRotary: RotaryInputs | null;
    /** Slot the token's key and value go to, [batch] int64. */
    readonly writeIndex: Value;
    /** Slots in use after the write, [batch] int64. */
    readonly length: Value;
  }[];
  readonly layers: readonly {
    readonly geometry: number;
    /** [batch, kvHeads, slots, headDim]; every output is the input's own memory. */
    readonly keys: { readonly input: Value; readonly outputs: readonly Value[] };
    readonly values: { readonly input: Value; readonly outputs: readonly Value[] };
    /** The token's unrotated key, [batch, kvHeads, 1, headDim]; null without sinks. */
    readonly rawKey: Value | null;
  }[];
}

/** Names of a prefill graph: a chunk of tokens; the cache is only read. */
export interface PrefillInterface extends Names {
  readonly phase: "prefill";
  /** Positions in the chunk whose logits are wanted, [wanted] int64. */
  readonly wanted: Value;
  readonly geometries: readonly {
    readonly rotary: RotaryInputs;
    /** First and last + 1 of the cache slots to attend to, each [1] int64; null where all are (hidden ones by the mask). */
    readonly past: { readonly start: Value; readonly end: Value } | null;
    /**
     * Added to the scores: [batch, 1 or heads, tokens, keys], keys being past, chunk (starting tokens, if scored apart).
     * `outputs` are the same memory, into which each layer writes its scores of the starting tokens.
     */
    readonly mask: { readonly input: Value; readonly outputs: readonly Value[] };
    /** Starting tokens scored apart, because queries of the chunk stand at different distances from them; else null. */
    readonly sinks: SinkScoreInputs | null;
  }[];
  readonly layers: readonly {
    readonly geometry: number;
    /** Cache buffers [batch, kvHeads, slots, headDim], and the chunk's [batch, kvHeads, tokens, headDim]. */
    readonly keys: { readonly input: Value; readonly output: Value };
    readonly values: { readonly input: Value; readonly output: Value };
    /** The chunk's unrotated keys, [batch, kvHeads, tokens, headDim]; null without sinks. */
    readonly rawKey: Value | null;
  }[];
}

/** Names of the graph that maps directions in the residual stream to logits. */
export interface LensInterface {
  /** [wanted, hiddenSize]. */
  readonly directions: Value;
  /** [wanted, vocabSize]. */
  readonly logits: Value;
  /** The weights it needs. */
  readonly weights: readonly Value[];
}
