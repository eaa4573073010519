import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { GraphBuilder } from "../../../models/onnx/graph.js";
import { openSae } from "../../../models/sae/formats/index.js";
import { buildReading } from "../../../models/sae/reading-graph.js";
import { GOLDEN, goldenSaes } from "./golden-sae.js";

const folders = ["saelens", "sparsify", "dictionary_learning", "gemma-scope"]
  .flatMap((format) => goldenSaes(join(GOLDEN, format)))
  .filter((folder) => !folder.includes("AutoEncoder-legacy-file"));

describe("reading graphs", () => {
  it.each(folders)("may be recorded by a GPU (%s)", async (folder) => {
    const sae = await openSae(folder);
    for (const which of ["read-native", "read-top-afa", "read-top-k"] as const)
      for (const precision of ["f32", "q8"] as const) {
        const g = new GraphBuilder();
        buildReading(g, which, sae, precision, (name) => name);
        expect(g.recordable).toBe(true);
      }
  });
});

describe("a graph", () => {
  it("may not be recorded where it joins what differs in size", () => {
    const g = new GraphBuilder();
    const parts = [1, 1].map((width, i) => g.input(`part ${i}`, "float32", ["rows", width]));
    g.join(parts, 1);
    expect(g.recordable).toBe(true);
    g.op("Concat", [...parts, g.input("part 2", "float32", ["rows", 2])], { axis: 1 });
    expect(g.recordable).toBe(false);
    expect(() => g.join(Array(33).fill("part 0"), 1)).toThrow(/33 tensors/);
  });
});
