import type { GraphBuilder, Value } from "../onnx/graph.js";
import { columns, number, rowSquares } from "./graph-rows.js";
import { FORCED_LAST } from "./top-afa.js";

/** Rows in a graph before they are cut; activations and sizes (activation * |decoder row|) are [rows, dSae]. */
export interface Uncut {
  readonly activations: Value;
  readonly sizes: Value;
  /** [rows, 1] */
  readonly norm: Value;
}

/** `kept` [rows, dSae]: activations of what is kept, else 0. */
export interface GraphCut {
  readonly kept: Value;
  /** [rows, 1]: 1 where more places are needed to find the cut; null where that does not happen. */
  readonly unfinished: Value | null;
}

/** Places that are summed one after the other; the number of places of top-AFA is a multiple of it. */
const PLACES_STEP = 128;

/** Places that hold all of dSae features. */
export const allPlaces = (dSae: number): number => Math.ceil(dSae / PLACES_STEP) * PLACES_STEP;

/**
 * The cut of top-AFA (`topAfaPlaces`) among the first `places` of sizes sorted downwards. They are sorted, because sums
 * over what lies above a threshold would have to be searched through in dozens of passes, each of them a few kernels.
 * Lengths c grow, so place j is nearer to the norm than j - 1 where the norm is above the middle of c_j-1 and c_j.
 * @param places int64 [1], on the host: a multiple of PLACES_STEP and at most `allPlaces`
 */
export function topAfaCut(g: GraphBuilder, { activations, sizes, norm }: Uncut, dSae: number, places: Value): GraphCut {
  const zero = number(g, 0);
  const width = allPlaces(dSae);
  const padded = width === dSae ? sizes : g.op("Pad", [sizes, g.constant("int64", [4], [0, 0, 0, width - dSae])]);
  const [all = "", order = ""] = g.multi("TopK", [padded, places], 2, { axis: -1, largest: 1, sorted: 1 });
  const place = g.op(
    "Range",
    [1, width + 1, 1].map((value) => number(g, value)),
  );
  const firstPlaces = (axis: number, values: Value) =>
    g.op("Slice", [values, g.constant("int64", [1], [0]), places, g.constant("int64", [1], [axis])]);
  // The last length is not the last share's, but FORCED_LAST.
  const isBeforeLast = g.op("Less", [firstPlaces(0, place), number(g, dSae)]);
  const sorted = g.op("Where", [isBeforeLast, all, zero]);
  const lengths = g.op("Sqrt", [runningSums(g, g.op("Mul", [sorted, sorted]))]);
  const shift = [g.constant("int64", [4], [0, 1, 0, 0]), number(g, Number.NEGATIVE_INFINITY)];
  const before = firstPlaces(1, g.op("Pad", [lengths, ...shift]));
  const isKept = g.op("Less", [g.op("Add", [before, lengths]), g.op("Add", [norm, norm])]);
  const marks = g.op("Where", [isKept, sorted, zero]);
  const scattered = g.op("ScatterElements", [zerosLike(g, padded), order, marks], { axis: 1 });
  const marked = g.op("Greater", [width === dSae ? scattered : columns(g, scattered, 0, dSae), zero]);
  const distanceTo = (value: Value) => g.op("Abs", [g.op("Sub", [value, norm])]);
  const distance = distanceTo(g.op("Sqrt", [rowSquares(g, marks)]));
  const whole = g.op("Less", [distanceTo(number(g, FORCED_LAST)), distance]);
  const last = (values: Value) => columns(g, values, -1, END);
  const isShort = g.op("Less", [last(lengths), norm]);
  const unfinished = g.op("And", [isShort, g.op("Greater", [last(sorted), zero])]);
  return {
    kept: g.op("Where", [g.op("Or", [marked, whole]), activations, zero]),
    unfinished: g.op("Where", [unfinished, number(g, 1), zero]),
  };
}

/** The `places` (int64 [1], on the host) largest activations. */
export function topKCut(g: GraphBuilder, { activations }: Uncut, places: Value): GraphCut {
  const [largest = "", features = ""] = g.multi("TopK", [activations, places], 2, { axis: -1, largest: 1, sorted: 0 });
  const kept = g.op("ScatterElements", [zerosLike(g, activations), features, largest], { axis: 1 });
  return { kept, unfinished: null };
}

/** The largest activation of each of `groups` runs of neighbours. */
export function groupMaxCut(g: GraphBuilder, { activations }: Uncut, dSae: number, groups: number): GraphCut {
  const grouped = g.op("Reshape", [activations, g.constant("int64", [3], [-1, groups, dSae / groups])]);
  const one = g.constant("int64", [1], [1]);
  const [largest = "", members = ""] = g.multi("TopK", [grouped, one], 2, { axis: -1, largest: 1, sorted: 1 });
  const scattered = g.op("ScatterElements", [zerosLike(g, grouped), members, largest], { axis: 2 });
  return { kept: g.op("Reshape", [scattered, g.constant("int64", [2], [-1, dSae])]), unfinished: null };
}

/**
 * Running sums of the rows of x [rows, places]: within blocks, then of blocks. A CUDA thread adds up all that is before
 * its element, so one sum over thousands would take as many steps; and less is lost of short sums in float32.
 */
function runningSums(g: GraphBuilder, x: Value): Value {
  const blocks = g.op("Reshape", [x, g.constant("int64", [3], [0, -1, PLACES_STEP])]);
  const axis = (value: number) => g.constant("int64", [], [value]);
  const within = g.op("CumSum", [blocks, axis(2)]);
  const ends = [-1, END, 2].map((value) => g.constant("int64", [1], [value]));
  const totals = g.op("Slice", [within, ...ends]);
  const before = g.op("CumSum", [totals, axis(1)], { exclusive: 1 });
  return g.op("Reshape", [g.op("Add", [within, before]), g.constant("int64", [2], [0, -1])]);
}

/** The end of an axis, for Slice. */
const END = 2 ** 31;

const zerosLike = (g: GraphBuilder, x: Value): Value => g.op("ConstantOfShape", [g.op("Shape", [x])]);
