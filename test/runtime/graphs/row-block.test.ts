import { expect, it } from "vitest";
import { blockAround } from "../../../runtime/graphs/row-block.js";

it("rows are computed in the smallest block of 1, 2, 4, ... that has them all", () => {
  const found = new Set<string>();
  for (let first = 0; first < 16; first++)
    for (let rows = 1; first + rows <= 16; rows++) {
      const block = blockAround({ first, rows }, 16);
      expect(block.first).toBeLessThanOrEqual(first);
      expect(block.first + block.rows).toBeGreaterThanOrEqual(first + rows);
      expect(block.first % block.rows).toBe(0);
      if (first === 0) expect(block.rows).toBeLessThan(2 * rows);
      found.add(`${block.first}+${block.rows}`);
    }
  expect(found.size).toBe(31);
});

it("rows beyond the capacity have no block", () => {
  expect(() => blockAround({ first: 3, rows: 2 }, 4)).toThrow("rows 3 to 5 are not all of 4");
});
