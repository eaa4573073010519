import { expect, it } from "vitest";
import { alibiSlopes } from "../../models/alibi.js";

it("slopes of 2^k heads are a geometric sequence down to 2^-8", () => {
  expect(alibiSlopes(1)).toEqual([1 / 256]);
  expect(alibiSlopes(8)).toEqual([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]);
  expect(alibiSlopes(16).filter((_, i) => i % 2 === 1)).toEqual(alibiSlopes(8));
});

it("other head counts have those of the next lower power of two, then every second one of the next higher", () => {
  expect(alibiSlopes(6)).toEqual([1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]);
  const slopes = alibiSlopes(112); // BLOOM-176B
  expect(slopes).toHaveLength(112);
  expect(slopes.slice(0, 64)).toEqual(alibiSlopes(64));
  expect(slopes.slice(64)).toEqual(
    alibiSlopes(128)
      .filter((_, i) => i % 2 === 0)
      .slice(0, 48),
  );
});

it("a larger maximum spreads them further: MPT-StoryWriter's 16", () => {
  expect(alibiSlopes(4, 16)).toEqual([2 ** -4, 2 ** -8, 2 ** -12, 2 ** -16]);
});
