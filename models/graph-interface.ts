import type { HookName } from "./hooks.js";
import type { GraphSignature, OpenSize, Value } from "./onnx/graph.js";

/** Sizes that graphs leave open, besides those that their interfaces name: rows, tokens of each, and logits' rows. */
export const BATCH: OpenSize = "batch";
export const TOKENS: OpenSize = "tokens";
export const WANTED: OpenSize = "wanted";

/** Rotary tables: cos and sin of some positions. */
export interface RotaryInputs {
  readonly cos: Value;
  readonly sin: Value;
}

/** What a chunk needs to score the starting tokens apart. */
export interface SinkScoreInputs {
  /** One buffer for all of these: each layer writes its scores into the mask. */
  readonly masks: readonly Value[];
  /** The queries at distance W, and the starting tokens at their own positions. */
  readonly farQuery: RotaryInputs;
  readonly nearSinks: RotaryInputs;
  /** Of each starting token, the first token of the chunk that stands W or more from it. */
  readonly nearUntil: Value;
  /** Added to these scores: hides starting tokens that are not in the cache yet. */
  readonly hidden: Value;
  /** First column of the mask that holds these scores. */
  readonly column: Value;
  /** Unrotated keys of the starting tokens. */
  readonly keys: Value;
}

/** What layers of one geometry need to look into an archive beside their cache. */
export interface MiddleInputs {
  /** The query at the distance at which retrieved keys stand; null where positions do not rotate. */
  readonly query: RotaryInputs | null;
  /** Added to the scores of the cache's slots: hides those not in use. */
  readonly unused: Value;
}

/** Every key and value of one text in one layer, in the order of the text. */
export interface ArchiveInputs {
  /** Tokens, and rows of `values`: as many for each key head. */
  readonly tokens: OpenSize;
  readonly rows: OpenSize;
  /** Unrotated. */
  readonly keys: Value;
  readonly values: Value;
  /** Added to their scores: hides keys that may not be retrieved. */
  readonly hidden: Value;
  /** Of each query head, the first row of its key head among `values`. */
  readonly firstRows: Value;
  /** Query heads, and the key head of each. */
  readonly keyHeads: readonly number[];
}

export interface TapOutput {
  readonly hook: HookName;
  readonly output: Value;
}

/** Inputs through which features are edited at a hook; a row without an edit has zeros. */
export interface EditInputs {
  readonly hook: HookName;
  /** Edits of each row. */
  readonly count: OpenSize;
  /** Encoder columns; centred (minus their mean) where the normalisation takes the mean off. */
  readonly encoder: Value;
  /** Decoder rows. */
  readonly decoder: Value;
  /** 1 where the SAE's normalisation is EDIT_NORMALISATIONS[i], else 0. */
  readonly normalisation: Value;
  /** See EDIT_PARAMETERS. */
  readonly parameters: Value;
  /** One entry for each SAE at this place that has a cut. */
  readonly cuts: readonly CutInputs[];
}

/** What tells which of the edited features an SAE's own cut keeps: the others count as not active. */
export interface CutInputs {
  /** The SAE's id. */
  readonly sae: string;
  /** Whether any edit asks for it; if not, nothing is computed. */
  readonly asked: Value;
  /** The feature of each edit that does; of all others -1. */
  readonly features: Value;
  /** Inputs for the SAE's weights, by their names in the SAE's file. */
  readonly weights: ReadonlyMap<string, Value>;
}

/** Inputs through which the vectors of some tokens are replaced at a hook: by vector * factor + offset. */
export interface PatchInputs {
  readonly hook: HookName;
  /** How many; may be 0. */
  readonly count: OpenSize;
  /** [count, 2]: the row of the batch, and the token in it. Nothing may be there twice. */
  readonly at: Value;
  /** [count, 1] */
  readonly factor: Value;
  /** [count, d] */
  readonly offset: Value;
}

interface Names {
  /** Types and shapes of all that these name. */
  readonly signature: GraphSignature;
  readonly ids: Value;
  /** Of the wanted tokens; of a decode graph, those are all rows. */
  readonly logits: Value;
  /** Positions of the tokens; null where the model has learned none. */
  readonly positions: Value | null;
  readonly taps: readonly TapOutput[];
  /** Hooks that are one tensor share their inputs. */
  readonly edits: readonly EditInputs[];
}

/** A distance that no score survives, with the smallest slopes there are. */
export const UNSEEN = 1e30;

/** What tokens need that are appended to the rows of a cache, each behind those that its row has. */
export interface AppendInputs {
  /** Slots of each row that are in use before. */
  readonly past: Value;
  /** All slots of a row, read on the host. */
  readonly slots: Value;
  /** Where attention rotates queries and keys itself: the row of `rotary` that each row of the batch takes. Else null. */
  readonly rotations: { readonly size: OpenSize; readonly rows: Value } | null;
}

/** A token's unrotated key, [kvHeads, headDim], within an output [batch, ...]. */
export interface RawKeyOutput {
  readonly output: Value;
  /** Its first element in each row of the output. */
  readonly at: number;
}

/** Names of the decode graph: one token per row; keys and values are written into the cache in place. */
export interface DecodeInterface extends Names {
  readonly phase: "decode";
  /** Whether a GPU may record a run and replay it. */
  readonly recordable: boolean;
  readonly geometries: readonly {
    /** Slots of the cache's buffers. */
    readonly slots: OpenSize;
    /** The token's own position; null where positions do not rotate. */
    readonly rotary: RotaryInputs | null;
    /** Where each starting token stands now, and their unrotated keys; null where none are turned. */
    readonly sinks: { readonly rotary: RotaryInputs; readonly keys: Value } | null;
    /** Slot the token's key and value go to; null where they are appended. */
    readonly writeIndex: Value | null;
    readonly appended: AppendInputs | null;
    /** Slots in use after the write; null where `appended`, `distances` or `middle` says it. */
    readonly length: Value | null;
    /** ALiBi: of the token in each slot, UNSEEN in slots that are not in use; else null. */
    readonly distances: Value | null;
    /** null where nothing is retrieved. */
    readonly middle: MiddleInputs | null;
  }[];
  /** Keys that each query head retrieves, at most those in the archive; null in graphs without retrieval. */
  readonly retrieved: Value | null;
  readonly layers: readonly {
    readonly geometry: number;
    /** The cache's buffers; every output is the input's own memory. */
    readonly keys: { readonly input: Value; readonly outputs: readonly Value[] };
    readonly values: { readonly input: Value; readonly outputs: readonly Value[] };
    /** null where nobody keeps the token's unrotated key, or it is not rotated. */
    readonly rawKey: RawKeyOutput | null;
    /** The token's value, where the cache's own is a code that an archive has no use for; else null. */
    readonly rawValue: Value | null;
    /** null where nothing is retrieved. */
    readonly archive: ArchiveInputs | null;
  }[];
}

/**
 * Each key is seen by neighbouring tokens of a chunk, which are counted from its first. All float32, which counts exactly
 * to 2^24.
 */
export interface SeenInputs {
  /** 0, 1, 2, ... */
  readonly tokens: Value;
  /** Of each key, the first token that sees it, and the first after these that does not. */
  readonly from: Value;
  readonly until: Value;
}

/** What the distances of keys are computed from. */
export interface DistanceInputs {
  /** Of each key, counted from the chunk's first token. */
  readonly places: Value;
  /** W. */
  readonly window: Value;
}

/** Names of a prefill graph: a chunk of tokens; the cache is only read. */
export interface PrefillInterface extends Names {
  readonly phase: "prefill";
  /** Positions in the chunk whose logits are wanted. */
  readonly wanted: Value;
  /** Hooks that are one tensor share their inputs. */
  readonly patches: readonly PatchInputs[];
  readonly geometries: readonly {
    /** Slots of the cache's buffers. */
    readonly slots: OpenSize;
    /** What the chunk attends to: past, chunk (starting tokens, if scored apart). */
    readonly keys: OpenSize;
    readonly rotary: RotaryInputs | null;
    /** The chunk attends to cache slots [0, pastEnd); those it does not see are hidden by the mask. */
    readonly pastEnd: Value;
    /** Which tokens of the chunk see which keys. */
    readonly seen: SeenInputs;
    /** ALiBi: where the keys stand, and how far they are taken to be at most; else null. */
    readonly distances: DistanceInputs | null;
    /** Starting tokens scored apart, because queries of the chunk stand at different distances from them; else null. */
    readonly sinks: SinkScoreInputs | null;
  }[];
  readonly layers: readonly {
    readonly geometry: number;
    /** The cache's buffers, and the chunk's own. */
    readonly keys: { readonly input: Value; readonly output: Value };
    readonly values: { readonly input: Value; readonly output: Value };
    /** The chunk's unrotated keys; null where nobody keeps them, or they are not rotated. */
    readonly rawKey: Value | null;
    /** The chunk's values, where those for the cache are codes that an archive has no use for; else null. */
    readonly rawValue: Value | null;
  }[];
}

/** Names of the graph that gives what hooks hold in whole texts, each read from its beginning. */
export interface ActivationsInterface {
  readonly signature: GraphSignature;
  readonly ids: Value;
  /** 0, 1, 2, ... for each token of the longest text. */
  readonly places: Value;
  /** The same as whole numbers, for each text; null where the model has learned no positions. */
  readonly positions: Value | null;
  readonly geometries: readonly { readonly rotary: RotaryInputs | null }[];
  readonly taps: readonly TapOutput[];
}

/** Names of the graph that maps directions in the residual stream to logits. */
export interface LensInterface {
  readonly signature: GraphSignature;
  readonly directions: Value;
  readonly logits: Value;
  /** The weights it needs. */
  readonly weights: readonly Value[];
}
