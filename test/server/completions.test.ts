import { describe, expect, test } from "vitest";
import type { GenerationEvent } from "../../runtime/contract/generation.js";
import { endEvent, scriptedEngine, wordEvent } from "./scripted-engine.js";
import { addUp, chunksOf, completionOf, errorOf, WireError } from "./wire.js";
import { appOf, complete, eventsOf } from "./with-server.js";

const text3 = " w100 w101 w102";

describe("a completion", () => {
  test("has OpenAI's shape, and 16 tokens unless told", async () => {
    const response = await complete(appOf(scriptedEngine()), { model: "org/words", prompt: "Once upon a time" });
    expect(response.status).toBe(200);
    const body = await completionOf(response);
    expect(body.model).toBe("org/words");
    expect(body.usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 16, total_tokens: 21 });
    expect(body.choices).toHaveLength(1);
    expect(body.choices[0]).toMatchObject({ index: 0, finish_reason: "length", logprobs: null });
  });

  test("without a model goes to the first one, and without a prompt starts from BOS", async () => {
    for (const prompt of [undefined, null, ""]) {
      const engine = scriptedEngine();
      const body = await completionOf(await complete(appOf(engine), { prompt, max_tokens: 2 }));
      expect(body.usage?.prompt_tokens).toBe(1);
      expect(engine.requests[0]?.[0]?.prompt).toEqual(Int32Array.of(0));
    }
  });

  test("without a prompt is refused where the model has no BOS", async () => {
    const app = appOf(scriptedEngine({ card: { bosTokenId: null, frame: { before: [], after: [] } } }));
    expect(await errorOf(await complete(app, {}))).toMatchObject({ param: "prompt", type: "invalid_request_error" });
    const refused = await complete(app, { prompt: ["a", ""] });
    expect(refused.status).toBe(400);
    expect((await errorOf(refused)).param).toBe("prompt[1]");
  });

  test("puts BOS before a text, and nothing before token ids", async () => {
    const engine = scriptedEngine();
    const app = appOf(engine);
    await complete(app, { prompt: "Once upon", max_tokens: 1 });
    await complete(app, { prompt: [2, 3], max_tokens: 1 });
    expect(engine.requests.map(([first]) => first?.prompt)).toEqual([Int32Array.of(0, 2, 3), Int32Array.of(2, 3)]);
  });

  test("puts no second BOS before a text that begins with one, as templates of other servers write it", async () => {
    const engine = scriptedEngine();
    const body = { prompt: ["<bos> upon", " upon <bos>"], max_tokens: 1, echo: true, logprobs: 0 };
    const { choices } = await completionOf(await complete(appOf(engine), body));
    expect(engine.requests[0]?.map(({ prompt }) => prompt)).toEqual([Int32Array.of(0, 2), Int32Array.of(0, 2, 3)]);
    expect(choices[0]?.text).toBe("<bos> upon w100");
    expect(choices[0]?.logprobs?.text_offset).toEqual([0, 5, 10]);
  });

  test("of several prompts and copies has choice prompt * n + copy, seeds by copy, prompts counted once", async () => {
    const engine = scriptedEngine();
    const prompt = ["Once upon", [2, 3, 4]];
    const body = await completionOf(await complete(appOf(engine), { prompt, n: 3, seed: -5, max_tokens: 2 }));
    expect(body.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(body.usage).toMatchObject({ prompt_tokens: 6, completion_tokens: 12, total_tokens: 18 });
    const sequences = engine.requests[0] ?? [];
    expect(sequences.map((sequence) => sequence.prompt.length)).toEqual([3, 3, 3, 3, 3, 3]);
    expect(sequences.map(({ prompt: ids }) => ids[0])).toEqual([0, 0, 0, 2, 2, 2]);
    expect(new Set(sequences.map(({ prompt: ids }) => ids)).size, "choices share their prompt's memory").toBe(2);
    const [own, second, third] = sequences.map(({ sampling }) => sampling.seed);
    expect(own).toBe(-5);
    expect(sequences.map(({ sampling }) => sampling.seed)).toEqual([own, second, third, own, second, third]);
  });

  test("has copies that are not those of the next seed", async () => {
    const engine = scriptedEngine();
    for (let seed = 0; seed < 10; seed++) await complete(appOf(engine), { prompt: "a", n: 10, seed, max_tokens: 0 });
    const seeds = engine.requests.flat().map(({ sampling }) => sampling.seed);
    expect(new Set(seeds).size).toBe(100);
    expect(seeds.slice(0, 2)).toEqual([0, 8_411_718_770_426_228]);
  });

  test("with a seed beyond 2^53 still gives each copy another seed", async () => {
    const engine = scriptedEngine();
    const seed = -9223372036854776000;
    expect((await complete(appOf(engine), { prompt: "a", n: 3, seed, max_tokens: 1 })).status).toBe(200);
    const seeds = engine.requests[0]?.map(({ sampling }) => sampling.seed);
    expect(new Set(seeds).size).toBe(3);
    expect(seeds?.every(Number.isSafeInteger)).toBe(true);
  });

  test("takes what the request leaves out from the model, then from OpenAI", async () => {
    const engine = scriptedEngine();
    const app = appOf(engine);
    await complete(app, { prompt: "a", max_tokens: 1 });
    await complete(app, { prompt: "a", max_tokens: 1, temperature: 0, top_p: 0.5, top_k: -1 });
    expect(engine.requests[0]?.[0]?.sampling).toMatchObject({ temperature: 0.8, topP: 0.95, topK: 0, seed: undefined });
    expect(engine.requests[1]?.[0]?.sampling).toMatchObject({ temperature: 0, topP: 0.5, topK: 0 });
    expect(engine.requests[1]?.[0]?.sampling).toMatchObject({ minP: 0, repetitionPenalty: 1 });
    const penalised = scriptedEngine({ card: { sampling: { minP: 0.05, repetitionPenalty: 1.1 } } });
    await complete(appOf(penalised), { prompt: "a", max_tokens: 1 });
    await complete(appOf(penalised), { prompt: "a", max_tokens: 1, min_p: 0, repetition_penalty: 1 });
    expect(penalised.requests[0]?.[0]?.sampling).toMatchObject({ temperature: 1, minP: 0.05, repetitionPenalty: 1.1 });
    expect(penalised.requests[1]?.[0]?.sampling).toMatchObject({ minP: 0, repetitionPenalty: 1 });
  });

  test("takes top_p 0 for greedy, and an empty stop string for none", async () => {
    const engine = scriptedEngine();
    for (const stop of ["", [], [""], ["", "a", ""]])
      await complete(appOf(engine), { prompt: "a", max_tokens: 1, temperature: 1, top_p: 0, stop });
    expect(engine.requests.map(([first]) => first?.stop)).toEqual([[], [], [], ["a"]]);
    expect(engine.requests[0]?.[0]?.sampling).toMatchObject({ temperature: 0, topP: 0 });
  });

  test("passes every field on", async () => {
    const engine = scriptedEngine();
    const response = await complete(appOf(engine), {
      prompt: [5],
      max_tokens: null,
      ignore_eos: true,
      min_tokens: 4,
      stop: "END",
      stop_token_ids: [7],
      temperature: 1.5,
      top_p: 0.9,
      top_k: 40,
      min_p: 0.1,
      presence_penalty: 1,
      frequency_penalty: -1,
      repetition_penalty: 1.1,
      logit_bias: { "5": -100, foo: 0 },
      allowed_token_ids: [5, 8],
      bad_words: ["a b"],
      include_stop_str_in_output: true,
      skip_special_tokens: false,
      seed: 7,
      lm_infinite: { window: 16, sinks: 0, mode: "full" },
      features: { saes: ["late"], top: 3, activation: { top_k: 9 }, prompt: true },
      edits: [{ sae: "early", feature: 63, op: "scale", value: -0.5 }],
      edits_from: "prompt",
      stream: true,
    });
    await response.body?.cancel();
    expect(engine.requests[0]).toEqual([
      {
        prompt: Int32Array.of(5),
        includeStop: true,
        specialText: true,
        promptRanks: false,
        maxTokens: null,
        minTokens: 4,
        ignoreEos: true,
        stop: ["END"],
        stopTokenIds: [7],
        logprobs: null,
        promptLogprobs: null,
        lambda: { window: 16, sinks: 0, mode: "full" },
        features: { saes: ["late"], top: 3, activation: { kind: "top-k", k: 9 }, prompt: true },
        edits: [{ sae: "early", feature: 63, op: "scale", value: -0.5, from: "kept" }],
        editsFrom: "prompt",
        sampling: {
          allowedTokenIds: [5, 8],
          badWords: [
            [2, 3],
            [4, 3],
          ],
          temperature: 1.5,
          topP: 0.9,
          topK: 40,
          minP: 0.1,
          presencePenalty: 1,
          frequencyPenalty: -1,
          repetitionPenalty: 1.1,
          logitBias: [[5, -100]],
          seed: 7,
        },
      },
    ]);
  });

  test("is limited where the server limits it", async () => {
    const engine = scriptedEngine();
    const app = appOf(engine, { settings: { maxTokensLimit: 3 } });
    expect((await errorOf(await complete(app, { prompt: "a", max_tokens: 4 }))).param).toBe("max_tokens");
    const body = await completionOf(await complete(app, { prompt: "a", max_tokens: null }));
    expect(body.usage?.completion_tokens).toBe(3);
  });
});

describe("echo", () => {
  test("puts the prompt in front, without the BOS that we added", async () => {
    const app = appOf(scriptedEngine());
    const body = await completionOf(
      await complete(app, { prompt: ["Once upon", [0, 2, 3]], echo: true, max_tokens: 3, n: 2 }),
    );
    expect(body.choices.map(({ text }) => text)).toEqual([
      `Once upon${text3}`,
      `Once upon${text3}`,
      `<bos>Once upon${text3}`,
      `<bos>Once upon${text3}`,
    ]);
  });

  test("with logprobs and max_tokens 0 reads the prompt only: what evaluation harnesses ask for", async () => {
    const body = await completionOf(
      await complete(appOf(scriptedEngine()), { prompt: [5, 6, 7], echo: true, logprobs: 1, max_tokens: 0 }),
    );
    expect(body.usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 0, total_tokens: 3 });
    expect(body.choices[0]).toMatchObject({
      text: " w5 w6 w7",
      finish_reason: "length",
      logprobs: {
        tokens: [" w5", " w6", " w7"],
        token_logprobs: [null, -0.006, -0.007],
        top_logprobs: [null, { " w6": -0.006 }, { " w7": -0.007 }],
        text_offset: [0, 3, 6],
      },
    });
  });

  test("lists an added BOS among the tokens, and offsets still point into the text", async () => {
    const app = appOf(scriptedEngine());
    const body = await completionOf(
      await complete(app, { prompt: "Once upon", echo: true, logprobs: 0, max_tokens: 2 }),
    );
    const choice = body.choices[0];
    expect(choice?.logprobs?.tokens).toEqual(["<bos>", "Once", " upon", " w100", " w101"]);
    expect(choice?.logprobs?.text_offset).toEqual([0, 0, 4, 9, 14]);
    const [, ...offsets] = choice?.logprobs?.text_offset ?? [];
    expect(offsets.map((offset) => choice?.text.slice(offset).split(/(?<=.)(?= )/)[0])).toEqual([
      "Once",
      " upon",
      " w100",
      " w101",
    ]);
  });
});

describe("a tokenizer that puts tokens around a text", () => {
  const app = () => appOf(scriptedEngine({ card: { frame: { before: [0, 7], after: [1] } } }));

  test("puts them around a prompt, and they are no part of the echoed text", async () => {
    const body = await completionOf(
      await complete(app(), { prompt: "Once upon", echo: true, logprobs: 0, max_tokens: 2, return_token_ids: true }),
    );
    const choice = body.choices[0];
    expect(choice?.text).toBe("Once upon w100 w101");
    expect(choice?.logprobs?.tokens).toEqual(["<bos>", " w7", "Once", " upon", "<eos>", " w100", " w101"]);
    expect(choice?.logprobs?.text_offset).toEqual([0, 0, 0, 4, 9, 9, 14]);
    const empty = await complete(app(), { prompt: "", max_tokens: 0 });
    expect((await completionOf(empty)).usage?.prompt_tokens).toBe(3);
  });

  test("but not around token ids", async () => {
    const body = await completionOf(await complete(app(), { prompt: [5, 6], echo: true, max_tokens: 0 }));
    expect(body.choices[0]?.text).toBe(" w5 w6");
  });
});

describe("logprobs", () => {
  test("0 gives each token its own; N adds the likeliest, the token always among them", async () => {
    const app = appOf(scriptedEngine());
    const own = await completionOf(await complete(app, { prompt: "a", logprobs: 0, max_tokens: 1 }));
    expect(own.choices[0]?.logprobs).toEqual({
      tokens: [" w100"],
      token_logprobs: [-0.1],
      top_logprobs: [{ " w100": -0.1 }],
      text_offset: [0],
    });
    const two = await completionOf(await complete(app, { prompt: "a", logprobs: 2, max_tokens: 1 }));
    expect(two.choices[0]?.logprobs?.top_logprobs).toEqual([{ " w100": -0.1, " w101": -0.101 }]);
  });

  test("survive minus infinity and a token named __proto__", async () => {
    const engine = scriptedEngine({
      async *script(sequence, index): AsyncGenerator<GenerationEvent> {
        const top = [{ tokenId: 3, logprob: Number.NEGATIVE_INFINITY }];
        yield {
          type: "token",
          index,
          seq: 0,
          pos: 1,
          tokenId: 2,
          text: "__proto__",
          logprobs: { logprob: -1, top },
          features: null,
        };
        yield endEvent(sequence, index, 1);
      },
    });
    await engine.encode("__proto__ b");
    const text = await (await complete(appOf(engine), { prompt: "a", logprobs: 1 })).text();
    expect(text).toContain('"top_logprobs":[{" b":-9999,"__proto__":-1}]');
  });

  test("offsets count characters, also of those that take several tokens", async () => {
    const engine = scriptedEngine({
      async *script(sequence, index): AsyncGenerator<GenerationEvent> {
        for (const [seq, tokenId] of [2, 3, 4, 5].entries()) {
          yield {
            type: "token",
            index,
            seq,
            pos: seq,
            tokenId,
            text: "",
            logprobs: { logprob: -1, top: [] },
            features: null,
          };
        }
        yield endEvent(sequence, index, 4);
      },
    });
    await engine.encode(" bytes:\\xf0\\x9f bytes:\\x98\\x80 b");
    const texts = ["\u{1f600}", "bytes:\\xe2\\x82", "bytes:\\xac", "b"];
    const told = { ...engine, tokenTexts: (ids: ArrayLike<number>) => Array.from(ids, (id) => texts[id - 2] ?? "?") };
    const body = await completionOf(await complete(appOf(told), { prompt: [9], logprobs: 0 }));
    expect(body.choices[0]?.logprobs?.text_offset).toEqual([0, 1, 2, 2]);
  });
});

describe("a stream", () => {
  const request = {
    prompt: ["Once upon", "a time"],
    n: 2,
    max_tokens: 4,
    echo: true,
    logprobs: 2,
    return_token_ids: true,
  };

  test("adds up to what the same request returns whole", async () => {
    const app = appOf(scriptedEngine());
    const traced = { ...request, features: { prompt: true } };
    const whole = await completionOf(await complete(app, traced));
    const chunks = await chunksOf(await complete(app, { ...traced, stream: true }));
    for (const choice of whole.choices) {
      expect(addUp(chunks, choice.index)).toEqual({
        text: choice.text,
        finishReasons: [choice.finish_reason],
        tokenIds: choice.token_ids,
        features: choice.features,
        promptTokenIds: choice.prompt_token_ids,
        logprobs: choice.logprobs,
      });
    }
    expect(whole.choices[0]?.prompt_token_ids).toEqual([0, 2, 3]);
    expect(whole.choices[0]?.token_ids).toEqual([100, 101, 102, 103]);
    expect(whole.choices[0]?.features?.map(({ token_id }) => token_id)).toEqual([0, 2, 3, 100, 101, 102, 103]);
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
  });

  test("has the prompt's log-probabilities in pieces as they come, each behind the text that its offsets point into", async () => {
    const app = appOf(
      scriptedEngine({
        async *script(sequence, index) {
          for (const [start, id] of sequence.prompt.entries()) {
            const logprobs = [start === 0 ? null : { logprob: -id / 1000, top: [] }];
            yield { type: "prompt", index, start, logprobs };
          }
          yield endEvent(sequence, index, 0);
        },
      }),
    );
    const asked = { prompt: "Once \u{1f600}\u{1f600} upon", echo: true, logprobs: 0, max_tokens: 0 };
    const chunks = await chunksOf(await complete(app, { ...asked, stream: true }));
    const pieces = chunks.flatMap(({ choices }) => choices);
    expect(pieces.map(({ text, logprobs }) => [text, logprobs?.tokens, logprobs?.text_offset])).toEqual([
      ["", ["<bos>"], [0]],
      ["Once", ["Once"], [0]],
      [" \u{1f600}\u{1f600}", [" \u{1f600}\u{1f600}"], [4]],
      [" upon", [" upon"], [7]],
      ["", undefined, undefined],
    ]);
    const [whole] = (await completionOf(await complete(app, asked))).choices;
    expect(addUp(chunks, 0)).toMatchObject({ text: whole?.text, logprobs: whole?.logprobs });
  });

  test("begins each choice with the echoed prompt and ends it with its only finish_reason", async () => {
    const chunks = await chunksOf(
      await complete(appOf(scriptedEngine()), { ...request, logprobs: null, stream: true }),
    );
    for (const index of [0, 1, 2, 3]) {
      const mine = chunks.flatMap(({ choices }) => choices).filter((choice) => choice.index === index);
      expect(mine[0]?.text).toBe(index < 2 ? "Once upon" : "a time");
      expect(mine.map(({ finish_reason }) => finish_reason).filter(Boolean)).toEqual(["length"]);
      expect(mine.at(-1)?.finish_reason).toBe("length");
    }
  });

  test("has usage only if asked for: last, with no choices, null before", async () => {
    const app = appOf(scriptedEngine());
    const without = await chunksOf(await complete(app, { prompt: "a", max_tokens: 2, stream: true }));
    expect(without.every((chunk) => !("usage" in chunk))).toBe(true);
    const asked = { prompt: ["a", "b"], n: 2, max_tokens: 2, stream: true, stream_options: { include_usage: true } };
    const chunks = await chunksOf(await complete(app, asked));
    const last = chunks.pop();
    expect(last).toMatchObject({ choices: [], usage: { prompt_tokens: 4, completion_tokens: 8, total_tokens: 12 } });
    expect(chunks.every(({ usage, choices }) => usage === null && choices.length === 1)).toBe(true);
  });

  test("counts on in every chunk with continuous_usage_stats", async () => {
    const stream_options = { include_usage: true, continuous_usage_stats: true };
    const body = { prompt: "a", max_tokens: 3, stream: true, stream_options };
    const chunks = await chunksOf(await complete(appOf(scriptedEngine()), body));
    expect(chunks.map(({ usage }) => usage?.completion_tokens)).toEqual([1, 2, 3, 3, 3]);
  });

  test("gives the same offsets as the whole answer when a stop string holds text back", async () => {
    const engine = scriptedEngine({
      async *script(sequence, index) {
        const held = [" w100", "", "", " w101 w102 w103"];
        for (const [seq, text] of held.entries()) yield wordEvent(sequence, index, seq, text);
        yield endEvent(sequence, index, 4, "stop", "END");
      },
    });
    const app = appOf(engine);
    const body = { prompt: "a", logprobs: 1, stop: ["END"] };
    const whole = (await completionOf(await complete(app, body))).choices[0];
    const chunks = await chunksOf(await complete(app, { ...body, stream: true }));
    expect(addUp(chunks, 0).logprobs).toEqual(whole?.logprobs);
    expect(whole).toMatchObject({
      stop_reason: "END",
      finish_reason: "stop",
      logprobs: { text_offset: [0, 5, 10, 15] },
    });
    const silent = await chunksOf(await complete(app, { prompt: "a", stream: true }));
    expect(silent.map(({ choices }) => choices[0]?.text)).toEqual([" w100", " w101 w102 w103", ""]);
  });
});

describe("a sequence that fails", () => {
  const failing = () =>
    scriptedEngine({
      async *script(sequence, index) {
        yield wordEvent(sequence, index, 0);
        if (index === 1)
          yield { type: "error", index, error: { kind: "not_finite", message: "the logits are not numbers" } };
        for (let seq = 1; ; seq++) yield wordEvent(sequence, index, seq);
      },
    });

  test("ends the request with 500 and stops the others", async () => {
    const engine = failing();
    const response = await complete(appOf(engine), { prompt: "a", n: 3, max_tokens: null });
    expect(response.status).toBe(500);
    expect(await errorOf(response)).toEqual({
      message: "the logits are not numbers",
      type: "server_error",
      param: null,
      code: "not_finite",
    });
    expect(engine.stopped).toBe(3);
  });

  test("ends a stream with an error event, with no finish_reason and no [DONE]", async () => {
    const engine = failing();
    const response = await complete(appOf(engine), { prompt: "a", n: 2, max_tokens: null, stream: true });
    const text = await response.text();
    const events = eventsOf(text);
    expect(WireError.parse(JSON.parse(events.at(-1) ?? "")).error.code).toBe("not_finite");
    expect(text).not.toContain("[DONE]");
    expect(text).not.toContain('"finish_reason":"');
    expect(engine.stopped).toBe(2);
  });

  test("through a fault of ours says nothing of it", async () => {
    const engine = scriptedEngine({
      // biome-ignore lint/correctness/useYield: it fails before it speaks
      async *script() {
        throw new Error("secret/path");
      },
    });
    const response = await complete(appOf(engine), { prompt: "a" });
    expect(response.status).toBe(500);
    const text = await response.text();
    expect(text).not.toContain("secret");
    expect(JSON.parse(text)).toMatchObject({ error: { type: "server_error", code: "internal" } });
  });
});
