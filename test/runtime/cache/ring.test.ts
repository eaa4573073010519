import { expect, it } from "vitest";
import { DOUBLING, Ring, SMALL_STEPS } from "../../../runtime/cache/ring.js";

const ring = new Ring({ window: "lambda", positions: { kind: "none" } }, { window: 4096, sinks: 16 });

it("slots grow in small steps on a processor, whose attention reads them all, and double where steps are recorded", () => {
  const tokens = [1, 80, 81, 300, 528, 529, 1040, 1041, 3000, 4112, 1e6];
  const slots = tokens.map((each) => ring.slotsFor(each, SMALL_STEPS));
  expect(slots).toEqual([80, 80, 144, 336, 528, 592, 1040, 1168, 3088, 4112, 4112]);
  const doubled = tokens.map((each) => ring.slotsFor(each, DOUBLING));
  expect(doubled).toEqual([272, 272, 272, 528, 528, 1040, 1040, 2064, 4112, 4112, 4112]);
});
