import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { afterAll, expect, it } from "vitest";
import type { GenerationEvent, SequenceRequest } from "../../../runtime/contract/generation.js";
import { eventCredit } from "../../../runtime/engine/event-credit.js";
import { EngineLoop } from "../../../runtime/engine/loop.js";
import type { Runner } from "../../../runtime/graphs/runner.js";
import { AttachedSaes } from "../../../runtime/saes/attached-saes.js";
import { goldenFolder, goldenIds } from "../../golden-tensors.js";
import { codedRunner } from "../graphs/coded-runner.js";
import { idsOf, sequenceRequest } from "./requests.js";

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

const TEXTS = 16;
const golden = goldenIds("lm-infinite");

/** Greedy and seeded texts of all lengths and windows, the same for the same seed. */
function randomRequests(seed: number): SequenceRequest[] {
  const random = xoroshiro128plus(seed);
  const below = (n: number) => (random.next() >>> 0) % n;
  return Array.from({ length: TEXTS }, (_, i) => {
    const from = below(golden.length);
    const prompt = Int32Array.from({ length: 1 + below(90) }, (_, at) => golden[(from + at) % golden.length] ?? 0);
    const { sampling } = sequenceRequest({});
    const drawn = { ...sampling, temperature: 0.7 + below(8) / 10, topP: below(2) === 0 ? 1 : 0.9, seed: i };
    const penalised = { ...drawn, frequencyPenalty: 0.3, repetitionPenalty: 1.1 };
    const lambda = { window: below(2) === 0 ? 32 : 4 + below(28), ...(below(4) === 0 && { sinks: 0 }) };
    const kind = [sampling, drawn, penalised][below(3)] ?? sampling;
    return sequenceRequest({ prompt, sampling: kind, lambda, maxTokens: 20 + below(60), logprobs: 2 });
  });
}

/** Events of each request; they come one after the other, some steps apart, into an engine with fewer places than texts. */
function generated(runner: Runner, requests: readonly SequenceRequest[]): GenerationEvent[][] {
  const events: GenerationEvent[][] = requests.map(() => []);
  const options = { window: 32, sinks: 4, parallel: 12, parking: 16, stallTimeoutMs: 60_000, fullLength: 1000 };
  using loop = new EngineLoop(
    runner,
    { ...options, eosTokenIds: [], tokens: null, saes: new AttachedSaes([]) },
    (outbox) => {
      for (const { request, events: some } of outbox) {
        events[request]?.push(...some);
        for (const event of some) read.push([request, eventCredit(event)]);
      }
    },
  );
  const read: [number, number][] = [];
  for (const [id, request] of requests.entries()) {
    loop.submit(id, [request]);
    for (let i = 0; i < id % 4; i++) loop.step();
  }
  while (loop.step()) for (const [request, credit] of read.splice(0)) loop.acknowledge(request, credit);
  return events;
}

it.each([
  ["f32", null],
  ["q8-block", null],
  ["q8-block", 8],
  ["int8", 8],
  ["q4", 4],
] as const)(
  "greedy and seeded texts in %s, with keys and values of %s bits, are alone what they are among others",
  async (precision, bits) => {
    const source = { path: goldenFolder("lm-infinite"), precision, cacheRoot };
    const { runner: opened } = await codedRunner(source, bits, { window: 32, threads: 1 });
    using runner = opened;
    const requests = randomRequests(precision.length + 7);
    const among = generated(runner, requests);
    for (const [i, request] of requests.entries()) {
      const [alone] = generated(runner, [request]);
      expect(idsOf(among[i] ?? [])).toHaveLength(request.maxTokens ?? 0);
      // Log-probabilities, too, to the last bit.
      expect(among[i]).toEqual(alone);
    }
  },
);
