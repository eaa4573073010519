import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { compileModel } from "../../../models/compile.js";
import { Runner } from "../../../runtime/graphs/runner.js";
import { expectedTensors, goldenArchitectures, goldenFolder, goldenSequences } from "../../golden-tensors.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const rms = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values).reduce((sum, value) => sum + value ** 2, 0) / values.length);

const FORMS = ["q8-block", "int8"] as const;
const cases = goldenArchitectures().flatMap((each) => FORMS.map((precision) => ({ ...each, precision })));

it.each(cases)("$name in $precision is near transformers' logits in f32", async ({ name, expectedFrom, precision }) => {
  const path = goldenFolder(`architectures/${name}`);
  const [ids = []] = goldenSequences(`architectures/${name}`);
  const want = expectedTensors(`architectures/${expectedFrom}`).get("seq0.logits")?.values ?? new Float32Array();
  using runner = new Runner(await compileModel({ path, precision, cacheRoot }), { window: 64, threads: 1 });
  const cache = runner.openCache({ window: 64, sinks: 2 });
  const row = cache.allocate();
  const decoded = ids.flatMap((id) => [...runner.decode(cache, row, [id])]);
  const prefilled = [...runner.prefill(cache, cache.allocate(), ids, [...ids.keys()])];
  runner.closeCache(cache);
  for (const logits of [decoded, prefilled]) {
    const errors = logits.map((logit, i) => logit - (want[i] ?? Number.NaN));
    expect(rms(errors) / rms(want)).toBeLessThan(0.1); // 2 to 5 %; NaN is not less
  }
});
