import { isQuantised, type KvType } from "../../models/keys-values/kv-format.js";
import type { ModelShape } from "../../models/model-shape.js";

const SMALLEST = 8;
const LARGEST = 64;
/** A GPU is busy with no fewer; what limits them is memory for the mask, of which each head has its own far in the text. */
const LARGEST_ON_DEVICE = 1024;
/** Bytes of weights times tokens of a chunk: about what takes a seventh of a second on two cores. */
const WORK = 4e10;

/** Tokens of a block of a prompt at most. */
const LARGEST_BLOCK = 256;

/** Where a prompt may be cut into chunks, as of `PlannedSequence`. */
export interface PromptGrid {
  readonly free: number;
  readonly grid: number;
  /** Tokens of a block whose keys and values are kept for other prompts: a multiple of `grid`, or on a GPU a divisor. */
  readonly block: number;
}

/**
 * It depends on the model, on the kind of device and on the request alone, never on what else runs or on what was measured:
 * past the window, where a text is cut changes its logits in the last digits.
 * @param isHost whether the CPU computes, whose kernels give a token the same bits in every chunk of two tokens or more
 * @param window of the request; infinite where it keeps all keys
 * @param kv what they are kept in: of a chunk as long as a window, a cache that appends tokens keeps one less
 */
export function promptGrid(
  { shape, weights }: { readonly shape: Pick<ModelShape, "geometries">; readonly weights: { readonly bytes: number } },
  isHost: boolean,
  window: number,
  kv: KvType,
): PromptGrid {
  const fitting = 2 ** Math.floor(Math.log2(WORK / weights.bytes));
  const whole = isHost ? Math.min(LARGEST, Math.max(SMALLEST, fitting)) : LARGEST_ON_DEVICE;
  const kept = shape.geometries.map((geometry) => {
    const own = geometry.window === "lambda" ? window : geometry.window;
    return isQuantised(kv) ? Math.max(1, own - 1) : own;
  });
  // No chunk is longer than the text's own window, even where all layers have trained ones that are larger.
  const windows = [window, ...kept];
  const finest = Math.min(whole, ...windows);
  const grid = finest <= LARGEST_BLOCK ? finest : Math.floor(finest / LARGEST_BLOCK) * LARGEST_BLOCK;
  const evicting = Math.min(...windows);
  // The last line of the grid before anything is evicted.
  const free = Number.isFinite(evicting) ? Math.floor(evicting / grid) * grid : evicting;
  const block = grid <= LARGEST ? Math.floor(LARGEST / grid) * grid : Math.min(grid, LARGEST_BLOCK);
  return { free: isHost ? free : 0, grid, block };
}
