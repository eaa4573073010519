import OpenAI from "openai";
import { expect, test } from "vitest";
import { scriptedEngine } from "./scripted-engine.js";
import { until, withServer } from "./with-server.js";

const client = (url: string) => new OpenAI({ apiKey: "none", baseURL: `${url}/v1`, maxRetries: 0 });

test("the official client completes", async () => {
  const engine = scriptedEngine();
  await withServer(engine, async ({ url }) => {
    const model = engine.card.id;
    const completion = await client(url).completions.create({
      model,
      prompt: "Once upon",
      max_tokens: 2,
      logprobs: 0,
      echo: true,
    });
    expect(completion.choices[0]?.text).toMatch(/^Once upon./);
    expect(completion.usage).toMatchObject({ completion_tokens: 2 });
    expect(completion.choices[0]?.logprobs?.token_logprobs?.[0]).toBe(null);
  });
});

test("the official client streams", async () => {
  const engine = scriptedEngine();
  await withServer(engine, async ({ url }) => {
    const stream = await client(url).completions.create({
      model: engine.card.id,
      prompt: "Once upon",
      max_tokens: 20,
      stream: true,
      stream_options: { include_usage: true },
    });
    const finishReasons: unknown[] = [];
    let usage: OpenAI.CompletionUsage | null | undefined;
    for await (const chunk of stream) {
      finishReasons.push(...chunk.choices.map(({ finish_reason }) => finish_reason));
      usage = chunk.usage;
    }
    expect(finishReasons.pop()).toBe("length");
    expect(finishReasons.every((reason) => reason === null)).toBe(true);
    expect(usage?.completion_tokens).toBe(20);
  });
});

test("the official client aborts, and the engine stops", async () => {
  const engine = scriptedEngine();
  await withServer(engine, async ({ url }) => {
    const body = { model: engine.card.id, prompt: "Once upon", max_tokens: null };
    const stream = await client(url).completions.create({ ...body, stream: true });
    let chunks = 0;
    for await (const _ of stream) {
      chunks += 1;
      if (chunks === 3) stream.controller.abort();
    }
    await until(() => engine.load().running === 0);

    const abort = new AbortController();
    const whole = client(url).completions.create(body, { signal: abort.signal });
    await until(() => engine.load().running === 1);
    abort.abort();
    await expect(whole).rejects.toThrow(OpenAI.APIUserAbortError);
    await until(() => engine.load().running === 0);
  });
});

test("the official client knows our errors", async () => {
  const engine = scriptedEngine();
  await withServer(engine, async ({ url }) => {
    const create = (body: object) =>
      client(url).completions.create({ model: engine.card.id, prompt: "a", ...body, stream: false });
    await expect(create({ model: "nope" })).rejects.toThrow(OpenAI.NotFoundError);
    await expect(create({ temperature: -1 })).rejects.toMatchObject({ status: 400, param: "temperature" });
    const failing = scriptedEngine({
      async *script(_, index) {
        yield { type: "error", index, error: { kind: "not_finite", message: "the logits are not numbers" } };
      },
    });
    await withServer(failing, async (other) => {
      const stream = await client(other.url).completions.create({ model: engine.card.id, prompt: "a", stream: true });
      const read = async () => {
        for await (const _ of stream);
      };
      await expect(read()).rejects.toMatchObject({ code: "not_finite" });
    });
  });
});

test("the official client lists and retrieves models", async () => {
  const engine = scriptedEngine();
  await withServer(
    engine,
    async ({ url }) => {
      const ids: string[] = [];
      for await (const model of client(url).models.list()) ids.push(model.id);
      expect(ids).toEqual([engine.card.id, "words"]);
      expect((await client(url).models.retrieve(engine.card.id)).id).toBe(engine.card.id);
    },
    { aliases: ["words"] },
  );
});
