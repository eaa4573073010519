import { expect, test } from "vitest";
import { toRetrieval } from "../../../runtime/cache/retrieval.js";

test.each([
  [512, 30, { k: 20, fromLayer: 4, distance: 64 }],
  [256, 6, { k: 20, fromLayer: 1, distance: 32 }],
  [4096, 32, { k: 20, fromLayer: 4, distance: 512 }],
  [100, 2, { k: 20, fromLayer: 0, distance: 16 }],
  [8, 2, { k: 8, fromLayer: 0, distance: 8 }],
])("at a window of %i on %i layers what is left out is near and enough", (window, layers, expected) => {
  expect(toRetrieval({}, window, { layers })).toEqual(expected);
});

test("what is named is taken as it is: the paper's form", () => {
  const paper = { k: 5, fromLayer: 4, distance: 256 };
  expect(toRetrieval(paper, 512, { layers: 30 })).toEqual(paper);
  expect(toRetrieval({ distance: 0 }, 512, { layers: 30 })).toEqual({ k: 20, fromLayer: 4, distance: 0 });
});
