import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { connectTraces, type Reading, type Subprotocol } from "../../loadtest/client/index.js";
import { LocalEngine } from "../../runtime/engine/engine.js";
import { toWireFloat } from "../../server/openai/features.js";
import { eventsOf, withServer } from "./with-server.js";

const Readings = z.array(
  z.object({
    sae: z.string(),
    l0: z.number(),
    z: z.number(),
    f: z.number(),
    eps_lbo: z.number().nullable(),
    mse: z.number(),
    top: z.array(z.tuple([z.number(), z.number()])),
  }),
);
const Features = z.array(z.object({ pos: z.number(), token_id: z.number(), saes: Readings }));
const Choices = z.object({ choices: z.array(z.object({ features: Features.optional() })) });
type Features = z.output<typeof Features>;

const request = { prompt: "The king had three daughters, and", max_tokens: 12, temperature: 0, ignore_eos: true };
const features = { top: 6, prompt: true };

const cacheDir = mkdtempSync(join(tmpdir(), "lambdatap-"));
let engine: LocalEngine;
beforeAll(async () => {
  const load = { precision: "f32", parallel: 4, queueLimit: 4, stallTimeoutMs: 60_000, threads: 1 } as const;
  engine = await LocalEngine.start({ model: join("models", "default"), window: 32, cacheDir, ...load });
});
afterAll(async () => {
  await engine.close();
  rmSync(cacheDir, { recursive: true });
});

describe("features of one text, of the embedded model", () => {
  it("are the same numbers in a whole answer, in a stream, and over WebSocket in both forms", async () => {
    await withServer(engine, async ({ url }) => {
      const post = async (path: string, body: object) => {
        const headers = { "Content-Type": "application/json" };
        return (await fetch(new URL(path, url), { method: "POST", headers, body: JSON.stringify(body) })).text();
      };
      const whole = featuresOf(await post("/v1/completions", { ...request, features }));
      expect(whole.map(({ pos }) => pos)).toEqual(whole.map((_, pos) => pos));
      expect(whole.length).toBeGreaterThan(18);
      for (const { saes } of whole) {
        expect(saes.map(({ top }) => top.length)).toEqual(saes.map(({ l0 }) => Math.min(6, l0)));
      }

      const stream = eventsOf(await post("/v1/completions", { ...request, features, stream: true }));
      expect(stream.slice(0, -1).flatMap(featuresOf)).toEqual(whole);
      for (const subprotocol of ["lambdatap.v1.msgpack", "lambdatap.v1.json"] as const)
        expect(await traced(url, subprotocol)).toEqual(whole);

      const read = z
        .object({ data: z.array(z.object({ tokens: Features })) })
        .parse(JSON.parse(await post("/v1/features", { input: [whole.map((each) => each.token_id)], top: 6 })));
      expectClose(read.data[0]?.tokens ?? [], whole);
    });
  });
});

function featuresOf(text: string): Features {
  return Choices.parse(JSON.parse(text)).choices.flatMap((choice) => choice.features ?? []);
}

async function traced(url: string, subprotocol: Subprotocol): Promise<Features> {
  const socket = await connectTraces(url, { subprotocol });
  const all: Features = [];
  for await (const frame of socket.generate({ ...request, features })) {
    if (frame.type !== "prompt" && frame.type !== "token") continue;
    const { pos, token_id } = frame;
    all.push({ pos, token_id, saes: Readings.parse(frame.saes.map(toWire)) });
  }
  await socket.close();
  return all;
}

function toWire({ idx, val, ...scalars }: Reading): object {
  return { ...scalars, top: Array.from(idx, (feature, i) => [feature, toWireFloat(val[i] ?? 0)]) };
}

/** Decoded against prefilled: equal up to f32. */
function expectClose(got: Features, want: Features): void {
  expect(got).toHaveLength(want.length);
  for (const [i, { saes }] of got.entries())
    for (const [j, a] of saes.entries()) {
      const b = want[i]?.saes[j];
      expect(Math.abs(a.z / (b?.z ?? 0) - 1)).toBeLessThan(1e-4);
      expect(Math.abs(a.f / (b?.f ?? 0) - 1)).toBeLessThan(1e-3);
      expect(Math.abs((a.top[0]?.[1] ?? 0) - (b?.top[0]?.[1] ?? 0))).toBeLessThan(1e-3);
    }
}
