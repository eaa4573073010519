import { describe, expect, it } from "vitest";
import type { ModelShape } from "../../../models/model-shape.js";
import { SetupError } from "../../../runtime/contract/errors.js";
import { placesOf, unkeptPrefixes } from "../../../runtime/engine/places.js";

/** SmolLM2-135M's. */
const shape: ModelShape = {
  vocabSize: 49_152,
  hiddenSize: 576,
  layers: 30,
  heads: 9,
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

const places = (gigabytes: number, asked?: number, window = 1024, host = gigabytes, prefixes = {}) =>
  placesOf({
    ...{ shape, geometry: { window, sinks: 10 }, kv: "float32", asked },
    ...{ memoryBytes: gigabytes * 1e9, hostBytes: host * 1e9, weightBytes: 5.4e8 },
    ...{ prefixBytes: undefined, models: 1, ...prefixes },
  });

describe("texts that have a row at once", () => {
  it("are 16 where nobody says how many, and more may be parked", () => {
    expect(places(24)).toMatchObject({ parallel: 16, parking: 106 });
    expect(places(100)).toMatchObject({ parallel: 16, parking: 256 });
  });

  it("are fewer where memory is short, and one at least", () => {
    expect(places(2)).toMatchObject({ parallel: 7, parking: 5 });
    expect(places(1, undefined, 8192)).toMatchObject({ parallel: 1, parking: 0 });
  });

  it("are as many as asked for; what is parked takes of what is left", () => {
    expect(places(24, 400)).toMatchObject({ parallel: 400, parking: 19 });
    expect(places(24, 1)).toMatchObject({ parallel: 1, parking: 109 });
    expect(places(24, 486).parking).toBe(0);
  });

  it("are parked in the host's memory, wherever the model runs", () => {
    expect(places(80, 4, 1024, 8)).toMatchObject({ parallel: 4, parking: 37 });
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

describe("memory for prompts that begin alike", () => {
  const prefixes = (prefixBytes: number | undefined, models = 1, gigabytes = 24) =>
    places(gigabytes, 16, 1024, gigabytes, { prefixBytes, models }).prefixBytes;

  it("is a tenth of what weights and texts leave, of all models together, or what is asked for", () => {
    expect(prefixes(undefined) / 1e9).toBeCloseTo(0.1 * (24 - 0.54 - 16 * 0.0483), 2);
    expect(prefixes(undefined, 3) * 3).toBeCloseTo(prefixes(undefined), -1);
    expect([prefixes(123), prefixes(0)]).toEqual([123, 0]);
  });

  it("is none where nothing is left", () => {
    expect(places(24, 486).prefixBytes).toBeLessThan(1e7);
  });

  it("is said to be too little where it holds no block", () => {
    const block = 64 * 2 * 30 * 3 * 64 * 4;
    const said = (bytes: number) => unkeptPrefixes(bytes, 64, { shape, kv: "float32" });
    expect(said(block - 1)).toMatch(/^Each prompt is read anew: 2\.9 MB are there .* 64 tokens, .* take 2\.9 MB\.$/);
    expect([said(block), said(0)]).toEqual([null, null]);
    expect(unkeptPrefixes(block / 4, 64, { shape, kv: "q8" })).toBeNull();
  });

  it("is refused beyond memory, with what there is room for", () => {
    expect(() => prefixes(50e9)).toThrow(SetupError);
    expect(() => prefixes(50e9)).toThrow(
      /^--prefix-mb 47684 takes 50\.0 GB, and this machine has 22\.7 GB left for it beside weights and running texts: choose less, or 0\.$/,
    );
    expect(() => prefixes(25e9, 2)).toThrow(/^--prefix-mb 47684 takes 25\.0 GB for each of 2 models, and this/);
  });
});
