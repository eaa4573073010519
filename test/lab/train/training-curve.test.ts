import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { TrainingCurve } from "../../../lab/train/training-curve.js";

test("a curve goes on with the same bytes, also behind a batch whose rows were equal", () => {
  const home = mkdtempSync(join(tmpdir(), "lambdatap-curve-"));
  try {
    const path = join(home, "curve.jsonl");
    const result = { mse: 0.25, afa: 0, aux: 0, inner: 0, l0Loss: 0, total: 0.25, l0: 2.5, leastKept: 0, dead: 3 };
    const curve = new TrainingCurve(path, 0);
    curve.add(10, 10, { ...result, unexplained: Number.POSITIVE_INFINITY });
    curve.add(20, 20, { ...result, unexplained: 0.75 });
    const before = readFileSync(path, "utf8");
    const resumed = new TrainingCurve(path, 20);
    expect(readFileSync(path, "utf8")).toBe(before);
    expect(resumed.lines.map(({ unexplained }) => unexplained)).toEqual([Number.POSITIVE_INFINITY, 0.75]);
    writeFileSync(path, `{"step":1}\n${before}`);
    expect(() => new TrainingCurve(path, 20)).toThrow(`${path} is damaged (line 1)`);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
