import { type KvRanges, kvChannels } from "../../models/keys-values/kv-ranges.js";
import type { ModelShape, Positions } from "../../models/model-shape.js";
import { SetupError } from "../contract/errors.js";

/**
 * Ranges are so many times what was seen. About 0.01 % of a book's keys and values then lie beyond (the embedded model and
 * SmolLM2), and the squared error of 8 bits, of rounding and of what lies beyond together, is the least.
 */
const MARGIN = 1.2;
/** Least range of a channel beside the widest of its layer: nothing is divided by a range of 0. */
const NARROWEST = 2 ** -10;
/** A layer that gets no larger is as good as zero. Steps of such a range, and what divides by them, would not be float32. */
const ZERO = 2 ** -100;

/** Collects the largest magnitude of each channel of keys and values. */
export class ObservedRanges {
  /** Squares, per layer and channel. */
  readonly #keys: Float64Array[];
  readonly #values: Float64Array[];

  constructor(private readonly shape: ModelShape) {
    const zeros = () => Array.from({ length: shape.layers }, () => new Float64Array(kvChannels(shape)));
    this.#keys = zeros();
    this.#values = zeros();
  }

  /**
   * Takes in keys, as caches hold them, and values of a layer, each [kvHeads, tokens, headDim].
   * @throws SetupError where one is not finite.
   */
  see(layer: number, keys: Float32Array, values: Float32Array): void {
    const { layerGeometries, geometries } = this.shape;
    const positions = geometries[layerGeometries[layer] ?? 0]?.positions ?? { kind: "none" };
    this.#widen(this.#keys, layer, keys, partners(this.shape.headDim, positions));
    this.#widen(this.#values, layer, values, null);
  }

  ranges(): KvRanges {
    return { keys: this.#keys.map(withMargin), values: this.#values.map(withMargin) };
  }

  #widen(squares: readonly Float64Array[], layer: number, seen: Float32Array, partner: Int32Array | null): void {
    const largest = squares[layer];
    if (largest === undefined) throw new RangeError(`the model has no layer ${layer}`);
    const { kvHeads, headDim } = this.shape;
    const tokens = seen.length / (kvHeads * headDim);
    for (let head = 0; head < kvHeads; head++) {
      for (let token = 0; token < tokens; token++) {
        const at = (head * tokens + token) * headDim;
        for (let i = 0; i < headDim; i++) {
          const value = seen[at + i] ?? 0;
          const other = partner?.[i] ?? -1;
          const turned = other < 0 ? 0 : (seen[at + other] ?? 0);
          const square = value * value + turned * turned;
          if (!Number.isFinite(square)) throw notFinite(layer);
          const channel = head * headDim + i;
          if (square > (largest[channel] ?? 0)) largest[channel] = square;
        }
      }
    }
  }
}

const notFinite = (layer: number): SetupError =>
  new SetupError(
    `Keys and values of layer ${layer} are not finite for the calibration text, so no 8 bits hold them: take --kv f32.`,
  );

/**
 * The dimension of a head that each dimension is rotated with; -1 where it is not rotated. A rotation can turn all of a pair's
 * norm into either of the two, so that the norm is the range of both.
 */
function partners(headDim: number, positions: Positions): Int32Array | null {
  if (positions.kind !== "rotary") return null;
  const { rotaryDim, interleaved } = positions;
  const half = rotaryDim / 2;
  return Int32Array.from({ length: headDim }, (_, i) => {
    if (i >= rotaryDim) return -1;
    return interleaved ? i ^ 1 : i < half ? i + half : i - half;
  });
}

function withMargin(squares: Float64Array): Float32Array {
  const widest = Math.sqrt(squares.reduce((a, b) => Math.max(a, b), 0));
  const narrowest = widest > ZERO ? widest * NARROWEST : 1;
  return Float32Array.from(squares, (square) => Math.max(Math.sqrt(square) * MARGIN, narrowest));
}
