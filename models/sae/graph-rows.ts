import type { GraphBuilder, Value } from "../onnx/graph.js";

/** A single float32. */
export const number = (g: GraphBuilder, value: number): Value => g.constant("float32", [], [value]);

/** [rows, 1] sums of the rows of x [rows, width]. */
export const rowSums = (g: GraphBuilder, x: Value): Value =>
  g.op("ReduceSum", [x, g.constant("int64", [1], [-1])], { keepdims: 1 });

/** [rows, 1] sums of the squares of the rows of x. */
export const rowSquares = (g: GraphBuilder, x: Value): Value => rowSums(g, g.op("Mul", [x, x]));

/** Columns `first` up to `end` of x [rows, width]. */
export const columns = (g: GraphBuilder, x: Value, first: number, end: number): Value =>
  g.op("Slice", [x, ...[first, end, 1].map((value) => g.constant("int64", [1], [value]))]);
