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

const places = (gigabytes: number, asked?: number, window = 1024, host = gigabytes) =>
  placesOf({
    ...{ shape, geometry: { window, sinks: 10 }, activations: "float32", asked },
    ...{ memoryBytes: gigabytes * 1e9, hostBytes: host * 1e9, weightBytes: 5.4e8 },
  });

describe("texts that have a row at once", () => {
  it("are 16 where nobody says how many, and more may be parked", () => {
    expect(places(24)).toEqual({ parallel: 16, parking: 117 });
    expect(places(100)).toEqual({ parallel: 16, parking: 256 });
  });

  it("are fewer where memory is short, and one at least", () => {
    expect(places(2)).toEqual({ parallel: 7, parking: 5 });
    expect(places(1, undefined, 8192)).toEqual({ parallel: 1, parking: 0 });
  });

  it("are as many as asked for; what is parked takes of what is left", () => {
    expect(places(24, 400)).toEqual({ parallel: 400, parking: 21 });
    expect(places(24, 1)).toEqual({ parallel: 1, parking: 121 });
    expect(places(24, 486).parking).toBe(0);
  });

  it("are parked in the host's memory, wherever the model runs", () => {
    expect(places(80, 4, 1024, 8)).toEqual({ parallel: 4, parking: 41 });
  });

  it("are not parked where a row is larger than an array can be", () => {
    expect(places(400, 4, 200_000).parking).toBe(0);
  });

  it("are refused beyond memory, with what there is room for", () => {
    expect(() => places(24, 4096)).toThrow(SetupError);
    expect(() => places(24, 4096)).toThrow(
      /^--parallel 4096 takes 197\.\d GB for keys and values \(48\.\d MB for each text with a window of 1024\), and there is room for 48\d beside the model's weights in 24\.0 GB: choose fewer, or a smaller --window\.$/,
    );
  });
});
