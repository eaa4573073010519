import { describe, expect, it } from "vitest";
import type { ModelShape } from "../../../models/model-shape.js";
import { SetupError } from "../../../runtime/contract/errors.js";
import { placesOf } from "../../../runtime/engine/places.js";

/** SmolLM2-135M's. */
const shape: ModelShape = {
  vocabSize: 49_152,
  hiddenSize: 576,
  layers: 30,
  kvHeads: 3,
  headDim: 64,
  trainedLength: 2048,
  bosTokenId: null,
  eosTokenIds: [],
  geometries: [
    { window: "lambda", positions: { kind: "rotary", rope: { type: "default", theta: 1e4 }, rotaryDim: 64 } },
  ],
  layerGeometries: Array(30).fill(0),
  learnedPositions: null,
  postNorm: false,
  ignoresMean: "never",
};

const places = (gigabytes: number, asked?: number, window = 1024) =>
  placesOf({
    ...{ shape, geometry: { window, sinks: 10 }, activations: "float32", asked },
    ...{ memoryBytes: gigabytes * 1e9, weightBytes: 5.4e8 },
  });

describe("texts that have a row at once", () => {
  it("are 16 where nobody says how many, and more may be parked", () => {
    expect(places(24)).toEqual({ parallel: 16, parking: 233 });
    expect(places(100)).toEqual({ parallel: 16, parking: 256 });
  });

  it("are fewer where memory is short, and one at least", () => {
    expect(places(2)).toEqual({ parallel: 10, parking: 10 });
    expect(places(1, undefined, 8192)).toEqual({ parallel: 1, parking: 1 });
  });

  it("are as many as asked for; of slow readers as many may be parked", () => {
    expect(places(24, 400)).toEqual({ parallel: 400, parking: 400 });
    expect(places(24, 1).parallel).toBe(1);
  });

  it("are refused beyond memory, with what there is room for", () => {
    expect(() => places(24, 4096)).toThrow(SetupError);
    expect(() => places(24, 4096)).toThrow(
      /^--parallel 4096 takes 197\.\d GB for keys and values \(48\.\d MB for each text with a window of 1024\), and there is room for 48\d beside the model's weights in 24\.0 GB: choose fewer, or a smaller --window\.$/,
    );
  });
});
