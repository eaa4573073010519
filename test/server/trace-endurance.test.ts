import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectTraces } from "../../loadtest/client/index.js";
import { LocalEngine } from "../../runtime/engine/engine.js";
import { HIGH_WATER } from "../../server/traces/outbox.js";
import { countedEngine } from "./counted-engine.js";
import { untilStill, withServer } from "./with-server.js";

const TOKENS = 2000;
const STOPS = 3;
/** Many features in JSON, so that what follows a stop is several times what the kernel's buffers take of it. */
const request = { prompt: "Once upon a time", max_tokens: TOKENS, seed: 7, ignore_eos: true };
const features = { top: 1000, activation: { top_k: 1000 } };
/** The largest frame: a name, scalars and all features of three SAEs. */
const LARGEST_FRAME = 3 * (1024 * 20 + 200) + 200;

const cacheDir = mkdtempSync(join(tmpdir(), "lambdatap-"));
let engine: LocalEngine;
beforeAll(async () => {
  const load = { precision: "f32", parallel: 4, queueLimit: 4, stallTimeoutMs: 60_000, threads: 1 } as const;
  engine = await LocalEngine.start({ model: join("models", "default"), cacheDir, ...load });
});
afterAll(async () => {
  await engine.close();
  rmSync(cacheDir, { recursive: true });
});

describe("a reader of a long trace that stops again and again", () => {
  it("stops the engine, and gets every token of the same text in the end", async () => {
    const counted = countedEngine(engine);
    await withServer(counted.engine, async ({ url }) => {
      const health = async () => (await fetch(new URL("/health", url))).json();
      const socket = await connectTraces(url, { highWaterMark: 1 << 16, subprotocol: "lambdatap.v1.json" });
      const ids: number[] = [];
      const stops: number[] = [];
      for await (const frame of socket.generate({ ...request, features })) {
        if (frame.type !== "token") continue;
        expect(frame.seq).toBe(ids.length);
        ids.push(frame.token_id);
        if (ids.length % Math.floor(TOKENS / (STOPS + 2)) !== 1 || stops.length === STOPS) continue;
        await untilStill(counted.taken, 400);
        stops.push(counted.taken());
        const { queued_bytes } = Object(await health());
        expect(queued_bytes).toBeLessThan(HIGH_WATER + LARGEST_FRAME);
      }
      await socket.close();
      expect(stops).toHaveLength(STOPS);
      for (const taken of stops) expect(taken).toBeLessThan(TOKENS);
      const answer = await fetch(new URL("/v1/completions", url), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...request, return_token_ids: true }),
      });
      expect(Object(await answer.json()).choices[0].token_ids).toEqual(ids);
    });
  });
});
