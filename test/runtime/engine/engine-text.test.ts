import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import type { LocalEngine } from "../../../runtime/engine/engine.js";
import { expectedTensors, goldenIds } from "../../golden-tensors.js";
import { idsOf, ofKind, promptLogprobs, sequenceRequest, textOf } from "./requests.js";
import { expectClose, expectedLogprobs, run, smallEngines } from "./small-engine.js";

const { startEngine } = smallEngines();

const ids = goldenIds("lm-infinite");
const lambdaLogits = expectedTensors("lm-infinite").get("lambda_w32_g4")?.values ?? new Float32Array();
const fullLogits = expectedTensors("lm-infinite").get("vanilla")?.values ?? new Float32Array();

describe("log-probabilities are those of the paper's own code", () => {
  let engine: LocalEngine;
  beforeAll(async () => {
    engine = await startEngine();
  });

  it("of a prompt far longer than the window, with nothing generated", async () => {
    const events = await run(engine, { prompt: ids, maxTokens: 0, promptLogprobs: 2 });
    expectClose(promptLogprobs(events), expectedLogprobs(lambdaLogits, ids));
    const places = ofKind(events, "prompt").map(({ start, logprobs }) => [start, start + logprobs.length]);
    expect(places[0]?.[0]).toBe(0);
    expect(places.at(-1)?.[1]).toBe(ids.length);
    expect(places.slice(1).map(([from]) => from)).toEqual(places.slice(0, -1).map(([, to]) => to));
    expect(events.at(-1)).toMatchObject({
      type: "end",
      finishReason: "length",
      promptTokens: 400,
      completionTokens: 0,
    });
  });

  it("of full attention in mode full, beside others that use lambda", async () => {
    const asked = { prompt: ids, maxTokens: 0, promptLogprobs: 0 } as const;
    const events = await run(engine, { ...asked, lambda: { mode: "full" } }, asked);
    expectClose(promptLogprobs(events, 0), expectedLogprobs(fullLogits, ids));
    expectClose(promptLogprobs(events, 1), expectedLogprobs(lambdaLogits, ids));
  });

  it("of generated tokens, as if they had been the prompt", async () => {
    const written = await run(engine, { prompt: ids.slice(0, 50), maxTokens: 60, logprobs: 1 });
    const again = [...ids.slice(0, 50), ...idsOf(written)];
    const events = await run(engine, { prompt: again, maxTokens: 0, promptLogprobs: 0 });
    expectClose(
      promptLogprobs(events).slice(49),
      ofKind(written, "token").map(({ logprobs }) => logprobs?.logprob ?? 1),
    );
    expect(ofKind(written, "token").map(({ pos }) => pos)).toEqual(Array.from({ length: 60 }, (_, i) => 50 + i));
  });

  it("of a smaller window and no sinks, as on an engine that is started with these", async () => {
    const asked = { prompt: ids.slice(0, 90), maxTokens: 20, logprobs: 0, promptLogprobs: 0 } as const;
    const other = await startEngine({ window: 16, sinks: 0 });
    const want = await run(other, asked);
    const got = await run(engine, { ...asked, lambda: { window: 16, sinks: 0 } });
    expectClose(promptLogprobs(got), promptLogprobs(want));
    expect(idsOf(got)).toEqual(idsOf(want));
    expect(idsOf(await run(engine, asked))).not.toEqual(idsOf(want));
  });
});

describe("text of the embedded model", () => {
  const Reference = z.object({
    cases: z.array(z.object({ prompt_ids: z.array(z.int()), ids: z.array(z.int()), gap: z.array(z.number()) })),
  });
  const { cases } = Reference.parse(JSON.parse(readFileSync("models/default/reference/greedy.json", "utf8")));
  let engine: LocalEngine;
  beforeAll(async () => {
    engine = await startEngine({ model: "models/default", window: undefined, sinks: undefined });
  });

  it.each(cases.map((each, i) => [i, each] as const))(
    "is the reference's, greedily: case %d",
    async (_, { prompt_ids, ids: want, gap }) => {
      // Where two tokens are this close, the order of a sum decides.
      const sure = gap.findIndex((each) => each < 0.01);
      const count = sure < 0 ? want.length : sure;
      const events = await run(engine, { prompt: prompt_ids, maxTokens: count, ignoreEos: true });
      expect(idsOf(events)).toEqual(want.slice(0, count));
    },
  );

  it("is the same for the same seed, alone and beside others, and another for another seed", async () => {
    const { sampling } = sequenceRequest({});
    const seeded = (seed: number) => ({
      prompt: [0, 3852, 600],
      maxTokens: 40,
      sampling: { ...sampling, temperature: 1, topP: 0.9, seed },
    });
    const alone = idsOf(await run(engine, seeded(1)));
    expect(alone.length).toBeGreaterThan(0);
    const beside = await run(engine, seeded(2), seeded(1), seeded(3), seeded(1));
    expect(idsOf(beside, 1)).toEqual(alone);
    expect(idsOf(beside, 3)).toEqual(alone);
    expect(idsOf(beside, 0)).not.toEqual(alone);
    expect(idsOf(beside, 0)).not.toEqual(idsOf(beside, 2));
  });

  it("ends before a stop string that no single token has", async () => {
    const prompt = cases[0]?.prompt_ids ?? [];
    const whole = textOf(await run(engine, { prompt, maxTokens: 12, ignoreEos: false }));
    const stop = "een born";
    expect(whole).toContain(stop);
    const events = await run(engine, { prompt, maxTokens: 12, stop: [stop, "never there"] });
    expect(textOf(events)).toBe(whole.slice(0, whole.indexOf(stop)));
    expect(events.at(-1)).toMatchObject({ finishReason: "stop", stopReason: stop });
  });

  it("is made of whole characters, whatever bytes the model writes, and is the text of its tokens", async () => {
    const { sampling } = sequenceRequest({});
    const bytes = engine.tokenTexts(Array.from({ length: engine.card.vocabSize }, (_, id) => id));
    const logitBias = bytes.flatMap((text, id): [number, number][] => (text.startsWith("bytes:") ? [[id, 30]] : []));
    expect(logitBias.length).toBeGreaterThan(50);
    const events = await run(engine, {
      maxTokens: 200,
      ignoreEos: true,
      sampling: { ...sampling, temperature: 2, logitBias, seed: 5 },
    });
    expect(textOf(events)).toBe(engine.decode(idsOf(events)));
    expect(ofKind(events, "token").some(({ text }) => /\p{Surrogate}/u.test(text))).toBe(false);
    expect(ofKind(events, "token").some(({ text }) => text === "")).toBe(true);
  });

  it("has as many tokens as min_tokens asks for, however much the model wants to end", async () => {
    const { sampling } = sequenceRequest({});
    const eager = { ...sampling, logitBias: [[0, 100]] as const };
    const events = await run(engine, { maxTokens: 20, minTokens: 6, ignoreEos: false, sampling: eager });
    expect(events.at(-1)).toMatchObject({ finishReason: "stop", stopReason: null, completionTokens: 7 });
  });
});
