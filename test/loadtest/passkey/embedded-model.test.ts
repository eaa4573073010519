import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryFolder } from "../../models/weights/write-safetensors.js";
import { smallEngines } from "../../runtime/engine/small-engine.js";
import { withServer } from "../../server/with-server.js";
import { passkey, reportIn } from "./run-passkey.js";

const { startEngine } = smallEngines();

test("the embedded model finds keys within its window in mode lambda, and none that were evicted", async () => {
  const engine = await startEngine({ model: "models/default", window: undefined, sinks: undefined });
  await withServer(engine, async ({ url }) => {
    const out = temporaryFolder();
    const run = ["--lengths", "1,2", "--depths", "2", "--trials", "3", "--digits", "5", "--modes", "lambda,truncation"];
    expect(await passkey(["--target", url, "--out", out, ...run])).toMatchObject({ code: 0, err: "" });
    const { summary, outcomes, settings } = reportIn(out);
    expect(settings.answer).toBe(" 99999".length + 2);
    for (const { within, beyond } of summary) {
      expect(within.trials).toBe(9);
      expect(within.hits).toBeGreaterThanOrEqual(8);
      expect(beyond).toEqual({ trials: 3, hits: 0, share: 0, low: 0, high: expect.any(Number) });
    }
    for (const { length, promptTokens } of outcomes) expect(promptTokens).toBeLessThanOrEqual(256 * length);
  });
});

test("a prompt whose keys the server has no memory for is refused before anything is run", async () => {
  const engine = await startEngine({ model: "models/default", window: undefined, archiveBytes: 1 << 20 });
  await withServer(engine, async ({ url }) => {
    const out = temporaryFolder();
    const { code, err } = await passkey(["--target", url, "--out", out, "--lengths", "1,2", "--modes", "retrieve"]);
    expect([code, err]).toEqual([1, expect.stringMatching(/^passkey: the server keeps 340 tokens .+ --archive-mb/)]);
    expect(existsSync(join(out, "passkey.jsonl"))).toBe(false);
  });
});
