import { describe, expect, it } from "vitest";
import { InvalidRequest } from "../../../runtime/contract/errors.js";
import { goldenFolder, goldenSequences } from "../../golden-tensors.js";
import { run, smallEngines } from "./small-engine.js";

const { startEngine } = smallEngines();

/** Golden GPT-2 has learned 128 positions. */
const LONGEST = 128;
const engine = await startEngine({ model: goldenFolder("architectures/gpt2"), window: LONGEST, sinks: 0 });
const prompt = (length: number): number[] => Array.from({ length }, (_, i) => 3 + (i % 120));

describe("a text of a model with learned positions", () => {
  it("ends where the positions do, however much was asked for", async () => {
    expect(engine.card.longest).toBe(LONGEST);
    for (const maxTokens of [null, 1000]) {
      const events = await run(engine, { prompt: prompt(100), maxTokens });
      expect(events.at(-1)).toMatchObject({ type: "end", finishReason: "length", completionTokens: LONGEST - 100 });
    }
  });

  it("is the same in mode full, and up to the last position", async () => {
    const [first = []] = goldenSequences("architectures/gpt2");
    const tokens = async (mode: "lambda" | "full") =>
      (await run(engine, { prompt: first, maxTokens: null, lambda: { mode } })).flatMap((event) =>
        event.type === "token" ? [event.tokenId] : [],
      );
    const lambda = await tokens("lambda");
    expect(lambda).toHaveLength(LONGEST - first.length);
    expect(await tokens("full")).toEqual(lambda);
  });

  it("cannot begin with a longer prompt, and the prompt alone may fill it", async () => {
    expect(() => run(engine, { prompt: prompt(LONGEST), maxTokens: 1 })).toThrow(InvalidRequest);
    expect(() => run(engine, { prompt: prompt(LONGEST + 1), maxTokens: 0 })).toThrow(/learned 128 positions/);
    const [end] = await run(engine, { prompt: prompt(LONGEST), maxTokens: 0 });
    expect(end).toMatchObject({ type: "end", finishReason: "length", promptTokens: LONGEST });
  });
});
