import { describe, expect, test } from "vitest";
import type { GenerationEvent, SequenceRequest } from "../../runtime/contract/generation.js";
import { countLogprobs } from "../../server/openai/answer-size.js";
import { toWireFloat } from "../../server/openai/features.js";
import { endEvent, scriptedEngine, wordEvent } from "./scripted-engine.js";
import { chunksOf, completionOf, errorOf } from "./wire.js";
import { appOf, complete } from "./with-server.js";

const app = appOf(scriptedEngine());

/** What the engine is asked for, once it has been asked. */
async function asked(body: object): Promise<SequenceRequest | undefined> {
  const engine = scriptedEngine();
  expect((await complete(appOf(engine), { prompt: [5], max_tokens: 1, ...body })).status).toBe(200);
  return engine.requests[0]?.[0];
}

describe("features of a completion", () => {
  test("say of each token what each SAE sees, in the shortest decimals that are the same f32", async () => {
    const body = { prompt: [5, 6], max_tokens: 1, features: {} };
    const [choice] = (await completionOf(await complete(app, body))).choices;
    expect(choice?.features).toEqual([
      {
        pos: 2,
        token_id: 100,
        saes: [
          {
            sae: "early",
            l0: 2,
            z: 11.02,
            f: 22.640188,
            eps_lbo: 0.012112369,
            mse: 0.009708738,
            top: [
              [28, 20.25],
              [33, 10.125],
            ],
          },
          {
            sae: "late",
            l0: 2,
            z: 11.02,
            f: 22.640188,
            eps_lbo: 0.006008498,
            mse: 0.009708738,
            top: [
              [29, 20.25],
              [34, 10.125],
            ],
          },
        ],
      },
    ]);
  });

  test.each([{}, { features: null }])("are left out unless asked for: %j", async (body) => {
    for (const stream of [false, true]) {
      expect(await (await complete(app, { prompt: "a", stream, ...body })).text()).not.toContain("features");
    }
    expect((await asked(body))?.features).toBeNull();
  });

  test.each([
    [{}, { saes: ["early", "late"], top: 8, activation: { kind: "native" }, prompt: false }],
    [
      { saes: null, top: null, activation: null, prompt: null },
      { saes: ["early", "late"], top: 8, activation: { kind: "native" }, prompt: false },
    ],
    [
      { activation: "native", top: 0 },
      { activation: { kind: "native" }, top: 0 },
    ],
    [
      { activation: "top-afa", top: 100_000 },
      { activation: { kind: "top-afa" }, top: 100_000 },
    ],
    [{ activation: { top_k: 64 } }, { activation: { kind: "top-k", k: 64 } }],
    [
      { saes: ["late"], activation: { top_k: 128 } },
      { saes: ["late"], activation: { kind: "top-k", k: 128 } },
    ],
    [{ saes: ["late", "early"] }, { saes: ["late", "early"] }],
  ])("asked for as %j", async (features, meaning) => {
    expect((await asked({ features }))?.features).toMatchObject(meaning);
  });

  test("of the prompt stand before those of the answer, for every copy", async () => {
    const body = { prompt: "Once upon", n: 2, max_tokens: 2, features: { saes: ["late"], top: 1, prompt: true } };
    const { choices } = await completionOf(await complete(appOf(scriptedEngine()), body));
    for (const { features } of choices) {
      expect(features?.map(({ pos }) => pos)).toEqual([0, 1, 2, 3, 4]);
      expect(features?.map(({ token_id }) => token_id)).toEqual([0, 2, 3, 100, 101]);
      expect(features?.map(({ saes }) => saes.map(({ sae, top }) => [sae, top.length]))).toEqual([
        [["late", 0]],
        [["late", 1]],
        [["late", 1]],
        [["late", 1]],
        [["late", 1]],
      ]);
    }
  });

  test("stream in the chunk of their token; those of the prompt in chunks of their own, before its echo", async () => {
    for (const echo of [false, true]) {
      const body = { prompt: "Once upon", echo, max_tokens: 2, stream: true, features: { prompt: true } };
      const chunks = (await chunksOf(await complete(appOf(scriptedEngine()), body))).flatMap(({ choices }) => choices);
      expect(chunks.map(({ text, features }) => [text, features?.map(({ token_id }) => token_id)])).toEqual([
        ["", [0, 2]],
        ["", [3]],
        ...(echo ? [["Once upon", []]] : []),
        [" w100", [100]],
        [" w101", [101]],
        ["", []],
      ]);
    }
  });

  test("stream also while the text of their token is held back", async () => {
    const engine = scriptedEngine({
      async *script(sequence, index) {
        for (const [seq, text] of ["", "", " w100 w101 w102"].entries()) yield wordEvent(sequence, index, seq, text);
        yield endEvent(sequence, index, 3);
      },
    });
    const chunks = await chunksOf(await complete(appOf(engine), { prompt: "a", stream: true, features: { top: 0 } }));
    expect(chunks.map(({ choices }) => choices[0]?.features?.map(({ token_id }) => token_id))).toEqual([
      [100],
      [101],
      [102],
      [],
    ]);
  });

  test("of a residual that is not a number are null, and BOS has nothing to divide by", async () => {
    const engine = scriptedEngine({
      async *script(sequence, index): AsyncGenerator<GenerationEvent> {
        const reading = {
          ...{ sae: "early", l0: 1, z: Number.NaN, f: Number.POSITIVE_INFINITY, epsLbo: null, mse: 1e39 },
          ...{ indices: Uint32Array.of(2 ** 32 - 1), values: Float32Array.of(0.1) },
        };
        yield {
          ...{ type: "token", index, seq: 0, pos: 1, tokenId: 2, text: "a", logprobs: null },
          features: [reading],
        };
        yield endEvent(sequence, index, 1);
      },
    });
    const text = await (await complete(appOf(engine), { prompt: "a", features: {} })).text();
    expect(text).toContain(
      '{"sae":"early","l0":1,"z":null,"f":null,"eps_lbo":null,"mse":null,"top":[[4294967295,0.1]]}',
    );
  });
});

describe("readings that are too many for an answer in one piece", () => {
  const refusal = { status: 400, param: "stream" };
  const errorParam = async (answer: Response) => ({ status: answer.status, param: (await errorOf(answer)).param });

  test("are refused before anything is computed, where that can be told", async () => {
    const engine = scriptedEngine();
    const prompt = Array.from({ length: 30_000 }, () => 5);
    for (const body of [
      { prompt: [5], max_tokens: 30_000, features: {} },
      { prompt: [5], max_tokens: 10_000, n: 3, features: {} },
      { prompt, max_tokens: 1, features: { prompt: true } },
    ])
      expect(await errorParam(await complete(appOf(engine), body))).toEqual(refusal);
    expect(engine.requests).toEqual([]);
    expect((await complete(appOf(engine), { prompt, max_tokens: 1, features: {} })).status).toBe(200);
  });

  test("are not thought to come of a length that nobody asked for", async () => {
    const long = appOf(scriptedEngine({ card: { trainedLength: 131_072 }, script: short }));
    const body = { messages: [{ role: "user", content: "a" }], features: {} };
    const headers = { "Content-Type": "application/json" };
    const asked = { method: "POST", headers, body: JSON.stringify(body) };
    expect((await long.request("/v1/chat/completions", asked)).status).toBe(200);
  });
  async function* short(sequence: SequenceRequest, index: number): AsyncGenerator<GenerationEvent> {
    yield endEvent(sequence, index, 0);
  }

  test("as log-probabilities are, of prompts and of what comes behind them", async () => {
    const engine = scriptedEngine({ script: short });
    const prompt = Array.from({ length: 50_000 }, () => 5);
    const echo = { prompt: [prompt, prompt], max_tokens: 1, logprobs: 20, echo: true };
    expect(await errorParam(await complete(appOf(engine), echo))).toEqual(refusal);
    expect(engine.requests).toEqual([]);
    expect((await complete(appOf(engine), { ...echo, logprobs: 19 })).status).toBe(200);
    const count = countLogprobs();
    count(2 ** 30, null);
    for (let token = 0; token < 2 ** 20; token++) count(1, 1);
    expect(() => count(1, 0)).toThrow("log-probabilities");
  });

  test("else as soon as they are, and the engine stops", async () => {
    const reading = { sae: "early", l0: 0, z: 1, f: 1, epsLbo: 0, mse: 0 };
    const wide = { ...reading, indices: new Uint32Array(10_000), values: new Float32Array(10_000) };
    const engine = scriptedEngine({
      async *script(sequence, index): AsyncGenerator<GenerationEvent> {
        for (let seq = 0; ; seq++) {
          const event = wordEvent(sequence, index, seq);
          yield event.type === "token" ? { ...event, features: [wide] } : event;
        }
      },
    });
    const body = { prompt: [5], max_tokens: null, features: { top: 10_000 } };
    expect(await errorParam(await complete(appOf(engine), body))).toEqual(refusal);
    expect(engine.stopped).toBe(1);
    expect(engine.taken).toBeLessThan(100);
  });
});

describe("a number on the wire", () => {
  test.each([0, 1, -0.1, 0.3, 1 / 3, 123456.789, 16777217, 3.4028234663852886e38, 2 ** -126, 8.5e9])(
    "is the f32 of %d, in as few digits as say so",
    (value) => {
      const wire = toWireFloat(value) ?? Number.NaN;
      expect(Math.fround(wire)).toBe(Math.fround(value));
      const digits = wire.toExponential().replace(/e.*|\D/g, "").length;
      expect(Math.fround(Number(wire.toPrecision(Math.max(1, digits - 1))))).toSatisfy(
        (shorter: number) => digits === 1 || shorter !== Math.fround(value),
      );
    },
  );

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e39])("is null for %d", (value) => {
    expect(toWireFloat(value)).toBeNull();
  });

  test("survives for every exponent of f32", () => {
    for (let bits = 1; bits < 0x7f800000; bits += 99_991) {
      const value = new Float32Array(Uint32Array.of(bits).buffer)[0] ?? 0;
      if (Math.fround(toWireFloat(value) ?? 0) !== value) expect(toWireFloat(value)).toBe(value);
    }
  });
});

describe("edits", () => {
  test("reach the engine, from the generation on unless told", async () => {
    const edits = [
      { sae: "early", feature: 0, op: "add", value: 1e6 },
      { sae: "late", feature: 127, op: "clamp", value: 0 },
      { sae: "late", feature: 126, op: "scale", value: -1e6, from: "pre" },
      { sae: "late", feature: 125, op: "ablate", from: "kept" },
      { sae: "late", feature: 124, op: "add", value: 1, from: null },
    ];
    const meant = edits.map((edit) => ({ ...edit, value: edit.value ?? 0, from: edit.from ?? "kept" }));
    expect(await asked({ edits })).toMatchObject({ edits: meant, editsFrom: "generation" });
    expect(await asked({ edits, edits_from: "prompt" })).toMatchObject({ edits: meant, editsFrom: "prompt" });
    expect(await asked({})).toMatchObject({ edits: [], editsFrom: "generation" });
  });

  test("that ablate need no value", async () => {
    const ablate = { sae: "early", op: "ablate" };
    const edits = [{ feature: 1 }, { feature: 2, value: null }, { feature: 3, value: 0 }];
    const meant = edits.map(({ feature }) => ({ ...ablate, feature, value: 0, from: "kept" }));
    expect((await asked({ edits: edits.map((each) => ({ ...ablate, ...each })) }))?.edits).toEqual(meant);
  });

  test("may be 256", async () => {
    const edits = Array(256).fill({ sae: "early", feature: 1, op: "add", value: 1 });
    expect((await asked({ edits }))?.edits).toHaveLength(256);
  });

  test("of one feature are several only where all add; the same number in two SAEs is two features", async () => {
    const adding = [1, 2, -3].map((value) => ({ sae: "early", feature: 1, op: "add", value }));
    const others = ["ablate", "clamp", "scale"].map((op, i) => ({
      sae: "late",
      feature: i + 1,
      op,
      value: op === "ablate" ? null : 1,
    }));
    expect((await asked({ edits: [...adding, ...others] }))?.edits).toHaveLength(6);
  });
});

const edit = { sae: "early", feature: 1, op: "add", value: 1 };

describe("a wrong field is refused with 400 that names it", () => {
  test.each<[string, object | string]>([
    ["features", { features: true }],
    ["features", { features: [] }],
    ["features", { features: "early" }],
    ["features.sae", { features: { sae: ["early"] } }],
    ["features.__proto__", '{ "features": { "__proto__": {} } }'],
    ["features.constructor", { features: { constructor: 1 } }],
    ["features.saes", { features: { saes: "early" } }],
    ["features.saes", { features: { saes: {} } }],
    ["features.saes", { features: { saes: [] } }],
    ["features.saes[1]", { features: { saes: ["early", 5] } }],
    ["features.saes[1]", { features: { saes: ["early", null] } }],
    ["features.saes[2]", { features: { saes: ["early", "late", "early"] } }],
    ["features.saes[1]", { features: { saes: Array(1024).fill("early") } }],
    ["features.saes", { features: { saes: Array(10_000).fill("early") } }],
    ["features.saes", { features: { saes: Array(10_000).fill(5) } }],
    ["features.saes[1]", { features: { saes: ["early", "nope"] } }],
    ["features.saes[0]", { features: { saes: ["__proto__"] } }],
    ["features.saes[0]", { features: { saes: ["constructor"] } }],
    ["features.saes[0]", { features: { saes: [""] } }],
    ["features.saes[0]", { features: { saes: ["x".repeat(100_000)] } }],
    ["features.top", { features: { top: -1 } }],
    ["features.top", { features: { top: 1.5 } }],
    ["features.top", { features: { top: "8" } }],
    ["features.top", { features: { top: 100_001 } }],
    ["features.top", '{ "features": { "top": 1e400 } }'],
    ["features.prompt", { features: { prompt: 1 } }],
    ["features.activation", { features: { activation: "top_afa" } }],
    ["features.activation", { features: { activation: "constructor" } }],
    ["features.activation", { features: { activation: 5 } }],
    ["features.activation", { features: { activation: [] } }],
    ["features.activation", { features: { activation: {} } }],
    ["features.activation.top_k", { features: { activation: { top_k: 0 } } }],
    ["features.activation", { features: { activation: { top_k: 1.5 } } }],
    ["features.activation.top_k", { features: { activation: { top_k: 1e300 } } }],
    ["features.activation.top_k", { features: { activation: { top_k: 65 } } }],
    ["features.activation.k", { features: { activation: { top_k: 8, k: 8 } } }],
    ["edits", { edits: {} }],
    ["edits", { edits: "early" }],
    ["edits[0]", { edits: [5] }],
    ["edits[1]", { edits: [edit, null] }],
    ["edits[0]", { edits: [[]] }],
    ["edits", { edits: Array(257).fill(edit) }],
    ["edits", { edits: Array(10_000).fill(edit) }],
    ["edits", { edits: Array(10_000).fill(null) }],
    ["edits[0].layer", { edits: [{ ...edit, layer: 3 }] }],
    ["edits[0].__proto__", '{ "edits": [{ "sae": "early", "feature": 1, "op": "ablate", "__proto__": 1 }] }'],
    ["edits[0].sae", { edits: [{ ...edit, sae: undefined }] }],
    ["edits[0].sae", { edits: [{ ...edit, sae: 5 }] }],
    ["edits[1].sae", { edits: [edit, { ...edit, sae: "nope" }] }],
    ["edits[0].sae", { edits: [{ ...edit, sae: "__proto__" }] }],
    ["edits[0].sae", { edits: [{ ...edit, sae: "toString" }] }],
    ["edits[0].feature", { edits: [{ ...edit, feature: undefined }] }],
    ["edits[0].feature", { edits: [{ ...edit, feature: -1 }] }],
    ["edits[0].feature", { edits: [{ ...edit, feature: 0.5 }] }],
    ["edits[0].feature", { edits: [{ ...edit, feature: "1" }] }],
    ["edits[1].feature", { edits: [edit, { ...edit, feature: 64 }] }],
    ["edits[0].feature", { edits: [{ ...edit, feature: 1e15 }] }],
    ["edits[0].feature", { edits: [{ ...edit, feature: 1e300 }] }],
    ["edits[0].op", { edits: [{ ...edit, op: undefined }] }],
    ["edits[0].op", { edits: [{ ...edit, op: "steer" }] }],
    ["edits[0].op", { edits: [{ ...edit, op: "constructor" }] }],
    ["edits[0].value", { edits: [{ ...edit, value: undefined }] }],
    ["edits[0].value", { edits: [{ ...edit, value: null }] }],
    ["edits[0].value", { edits: [{ ...edit, value: "1" }] }],
    ["edits[0].value", { edits: [{ ...edit, value: 1e6 + 1 }] }],
    ["edits[0].value", { edits: [{ ...edit, value: -1e300 }] }],
    ["edits[0].value", { edits: [{ ...edit, op: "ablate", value: 1 }] }],
    ["edits[0].value", '{ "edits": [{ "sae": "early", "feature": 1, "op": "add", "value": 1e400 }] }'],
    ["edits[0].value", '{ "edits": [{ "sae": "early", "feature": 1, "op": "add", "value": -1e400 }] }'],
    ["edits[0].from", { edits: [{ ...edit, op: "clamp", from: "post" }] }],
    ["edits[0].from", { edits: [{ ...edit, op: "clamp", from: 1 }] }],
    ["edits[0].from", { edits: [{ ...edit, from: "kept" }] }],
    ["edits[0].from", { edits: [{ ...edit, from: "pre" }] }],
    ["edits[1]", { edits: [edit, { ...edit, op: "ablate", value: null }] }],
    ["edits[1]", { edits: [{ ...edit, op: "clamp" }, edit] }],
    [
      "edits[2]",
      {
        edits: [
          { ...edit, op: "clamp" },
          { ...edit, feature: 2 },
          { ...edit, op: "clamp" },
        ],
      },
    ],
    ["edits[1]", { edits: ["kept", "pre"].map((from) => ({ ...edit, op: "ablate", value: 0, from })) }],
    ["edits_from", { edits_from: "start" }],
    ["edits_from", { edits_from: 0 }],
    ["edits", { edits: Array(200_000).fill(1) }],
  ])("%s", async (param, body) => {
    const response = await complete(app, body);
    expect(response.status).toBe(400);
    const error = await errorOf(response);
    expect(error).toMatchObject({ type: "invalid_request_error", param });
    expect(error.message).not.toContain("undefined");
  });

  test("with what there is instead", async () => {
    const messageFor = async (body: object) => (await errorOf(await complete(app, body))).message;
    expect(await messageFor({ features: { saes: ["x"] } })).toBe(
      "features.saes[0]: there is no SAE 'x' on this model (GET /v1/saes lists them)",
    );
    expect(await messageFor({ edits: [{ ...edit, feature: 64 }] })).toBe(
      "edits[0].feature: SAE 'early' has features 0 to 63",
    );
    expect(await messageFor({ edits: [edit, { ...edit, op: "scale" }] })).toBe(
      "edits[1]: feature 1 of SAE 'early' is edited by edits[0] already: only additions add up",
    );
    expect(await messageFor({ features: { activation: { top_k: 100 } } })).toBe(
      "features.activation.top_k: SAE 'early' has 64 features, fewer than that",
    );
  });

  test("where the model has no SAEs", async () => {
    const bare = appOf(scriptedEngine({ card: { saes: [] } }));
    const error = await errorOf(await complete(bare, { prompt: "a", features: {} }));
    expect(error).toMatchObject({ param: "features", message: expect.stringContaining("no SAE") });
    expect((await errorOf(await complete(bare, { prompt: "a", edits: [edit] }))).param).toBe("edits[0].sae");
    expect((await complete(bare, { prompt: "a", edits: [], edits_from: "prompt" })).status).toBe(200);
  });
});
