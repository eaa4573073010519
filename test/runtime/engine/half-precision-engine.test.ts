import { expect, it } from "vitest";
import { SetupError } from "../../../runtime/contract/errors.js";
import { expectedTensors, goldenIds } from "../../golden-tensors.js";
import { idsOf, promptLogprobs } from "./requests.js";
import { expectedLogprobs, run, smallEngines } from "./small-engine.js";

const { startEngine } = smallEngines();

const ids = goldenIds("lm-infinite").slice(0, 200);

it("an engine in f16 gives the log-probabilities of the paper's own code, to its precision", async () => {
  const engine = await startEngine({ precision: "f16" });
  expect(engine.card.precision).toBe("f16");
  const events = await run(engine, { prompt: ids, promptLogprobs: 0, maxTokens: 4 });
  const golden = expectedTensors("lm-infinite").get("lambda_w32_g4")?.values ?? new Float32Array();
  const want = expectedLogprobs(golden.subarray(0, ids.length * 256), ids);
  const found = promptLogprobs(events);
  expect(found).toHaveLength(want.length);
  // Logits have a standard deviation of 2.9.
  expect(Math.max(...found.map((value, i) => Math.abs(value - (want[i] ?? Number.NaN))))).toBeLessThan(0.15);
  expect(idsOf(events)).toHaveLength(4);
  const together = await run(engine, { prompt: ids, maxTokens: 4 }, { prompt: ids.slice(0, 50), maxTokens: 4 });
  expect([idsOf(together, 0), idsOf(together, 1)].map(({ length }) => length)).toEqual([4, 4]);
});

it("an engine in f16 has room for twice the text that it keeps for retrieval", async () => {
  const archiveBytes = 2 ** 20;
  const [f32, f16] = [await startEngine({ archiveBytes }), await startEngine({ archiveBytes, precision: "f16" })];
  const tokens = (bytes: number) => Math.floor(archiveBytes / (3 * 2 * 16 * bytes * 2 + 4));
  expect([f32.card.archiveTokens, f16.card.archiveTokens]).toEqual([tokens(4), tokens(2)]);
  const retrieve = { retrieve: { k: 5, fromLayer: 1, distance: 16 } };
  expect(idsOf(await run(f16, { prompt: ids, lambda: retrieve, maxTokens: 6 }))).toHaveLength(6);
});

it("bf16 without a GPU is refused in a sentence that says what to do", async () => {
  const refused = startEngine({ precision: "bf16" });
  await expect(refused).rejects.toThrow(SetupError);
  await expect(refused).rejects.toThrow("bf16 runs on a GPU only: add --device cuda, or take --precision f32 or f16");
});
