import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { GraphBuilder, type WeightPlace } from "../../../models/onnx/graph.js";

/** Width of every row. */
export const WIDTH = 256;

export interface GraphFiles {
  readonly graph: string;
  readonly weights: string;
  readonly bytes: number;
  readonly place: WeightPlace;
}

/**
 * Writes a graph with a weight beside it: y = x W, next = total + y, where `next` may be bound to the memory of `total`.
 * x, total, y and next are [rows, WIDTH]; W is 2 on its diagonal.
 */
export function writeRunningTotal(folder: string): GraphFiles {
  const weights = join(folder, "weights.bin");
  const matrix = Float32Array.from({ length: WIDTH * WIDTH }, (_, i) => (i % (WIDTH + 1) === 0 ? 2 : 0));
  writeFileSync(weights, matrix);
  const place = { type: "float32", shape: [WIDTH, WIDTH], offset: 0, bytes: matrix.byteLength } as const;
  const builder = new GraphBuilder();
  const x = builder.input("x", "float32", ["rows", WIDTH]);
  const total = builder.input("total", "float32", ["rows", WIDTH]);
  const y = builder.op("MatMul", [x, builder.weight("w", place, "weights.bin")], {}, "y");
  builder.op("Add", [total, y], {}, "next");
  for (const name of ["y", "next"]) builder.output(name, "float32", ["rows", WIDTH]);
  const graph = join(folder, "running-total.onnx");
  writeFileSync(graph, builder.serialize("running-total"));
  return { graph, weights, bytes: matrix.byteLength, place };
}
