import { expect, test } from "vitest";
import { accuracyOf, distanceBin } from "../../../loadtest/passkey/accuracy.js";

test("no span of distances holds both sides of the window", () => {
  const labels = [0, 127, 128, 255, 256, 511, 512, 10_000].map((distance) => distanceBin(distance, 256).label);
  expect(labels).toEqual(["0-½ W", "0-½ W", "½-1 W", "½-1 W", "1-2 W", "1-2 W", "2-4 W", "32-64 W"]);
});

test("accuracy is a share within its interval, also where all or none were found", () => {
  const half = accuracyOf([{ hit: true }, { hit: false }]);
  expect(half).toMatchObject({ hits: 1, trials: 2, share: 0.5 });
  expect(half.low).toBeGreaterThan(0);
  expect(half.high).toBeLessThan(1);
  expect(accuracyOf([{ hit: true }])).toMatchObject({ share: 1, high: 1 });
  expect(accuracyOf([{ hit: false }])).toMatchObject({ share: 0, low: 0 });
});
