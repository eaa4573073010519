/** Rows of a batch, and features, that threads cut together. */
export interface CutSizes {
  readonly batch: number;
  readonly dSae: number;
}

const LAYOUT = {
  /** Activations before the cut, [batch, dSae]. */
  activations: { array: Float32Array, size: ({ batch, dSae }: CutSizes) => batch * dSae },
  /** Those that are kept, else 0, [batch, dSae]. */
  kept: { array: Float32Array, size: ({ batch, dSae }: CutSizes) => batch * dSae },
  /** Activations of dead features, [batch, dSae]. */
  dead: { array: Float32Array, size: ({ batch, dSae }: CutSizes) => batch * dSae },
  /** Lengths of decoder rows, [dSae]. */
  norms: { array: Float32Array, size: ({ dSae }: CutSizes) => dSae },
  /** Lengths of the inputs less b_dec, [batch]. */
  lengths: { array: Float32Array, size: ({ batch }: CutSizes) => batch },
  /** Sum of the squares of a row's kept activations, [batch]. */
  squares: { array: Float64Array, size: ({ batch }: CutSizes) => batch },
  /** Its smallest kept activation, 0 where it keeps none, [batch]. */
  least: { array: Float32Array, size: ({ batch }: CutSizes) => batch },
  /** Kept features, [batch]. */
  counts: { array: Int32Array, size: ({ batch }: CutSizes) => batch },
  /** Places up to the cut of top-AFA, which may hold zeros, [batch]. */
  places: { array: Int32Array, size: ({ batch }: CutSizes) => batch },
  /** 1 where a feature was kept in some row, [dSae]. */
  fired: { array: Uint8Array, size: ({ dSae }: CutSizes) => dSae },
  /** Numbers of the features that are dead, [dSae]. */
  deadFeatures: { array: Uint32Array, size: ({ dSae }: CutSizes) => dSae },
  /** Activations that threads found large enough, those of each at the place of its first row, [batch, dSae]. */
  collected: { array: Float32Array, size: ({ batch, dSae }: CutSizes) => batch * dSae },
  /** How many each has found, [threads]. */
  collectedCounts: { array: Int32Array, size: (_: CutSizes, threads: number) => threads },
} as const;

type Name = keyof typeof LAYOUT;
type Floats = "activations" | "kept" | "dead" | "norms" | "lengths" | "least" | "collected";
export interface CutArrays extends Readonly<Record<Floats, Float32Array>> {
  readonly squares: Float64Array;
  readonly counts: Int32Array;
  readonly places: Int32Array;
  readonly fired: Uint8Array;
  readonly deadFeatures: Uint32Array;
  readonly collectedCounts: Int32Array;
}
export type CutBuffers = { readonly [Key in Name]: SharedArrayBuffer };

/** Memory that threads share; what is never written to takes none. */
export function cutBuffers(sizes: CutSizes, threads: number): CutBuffers {
  const buffer = (name: Name) =>
    new SharedArrayBuffer(Math.max(1, LAYOUT[name].size(sizes, threads)) * LAYOUT[name].array.BYTES_PER_ELEMENT);
  return {
    activations: buffer("activations"),
    kept: buffer("kept"),
    dead: buffer("dead"),
    norms: buffer("norms"),
    lengths: buffer("lengths"),
    squares: buffer("squares"),
    least: buffer("least"),
    counts: buffer("counts"),
    places: buffer("places"),
    fired: buffer("fired"),
    deadFeatures: buffer("deadFeatures"),
    collected: buffer("collected"),
    collectedCounts: buffer("collectedCounts"),
  };
}

/** The same as arrays. */
export function cutArrays(buffers: CutBuffers): CutArrays {
  return {
    activations: new Float32Array(buffers.activations),
    kept: new Float32Array(buffers.kept),
    dead: new Float32Array(buffers.dead),
    norms: new Float32Array(buffers.norms),
    lengths: new Float32Array(buffers.lengths),
    squares: new Float64Array(buffers.squares),
    least: new Float32Array(buffers.least),
    counts: new Int32Array(buffers.counts),
    places: new Int32Array(buffers.places),
    fired: new Uint8Array(buffers.fired),
    deadFeatures: new Uint32Array(buffers.deadFeatures),
    collected: new Float32Array(buffers.collected),
    collectedCounts: new Int32Array(buffers.collectedCounts),
  };
}
