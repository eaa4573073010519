import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { createApp } from "../../server/app.js";
import { createModelRegistry } from "../../server/model-registry.js";
import { CARD, scriptedEngine } from "./scripted-engine.js";
import { errorOf } from "./wire.js";

/** Two models; the second has an SAE of the first one's name, and one whose name has slashes. */
const [early, late] = CARD.saes;
if (early === undefined || late === undefined) throw new Error("the scripted engine has two SAEs");
const second = scriptedEngine({
  card: {
    id: "second",
    saes: [
      { ...late, dSae: 7 },
      { ...early, id: "release/layer_1/features" },
    ],
  },
});
const app = createApp({
  models: createModelRegistry([{ engine: scriptedEngine(), aliases: ["words"] }, { engine: second }]),
  logger: pino({ level: "silent" }),
  guard: { boundHost: "127.0.0.1", allowedHosts: [], allowedOrigins: [] },
  completions: { maxBodyBytes: 1 << 20, pingMs: 10_000, systemFingerprint: "b0.0.0" },
});
const get = async (path: string) => {
  const response = await app.request(path);
  return { status: response.status, body: await response.json() };
};
const refusal = async (path: string) => {
  const response = await app.request(path);
  return { status: response.status, ...(await errorOf(response)) };
};

const EARLY = {
  object: "sae",
  id: "early",
  model: "org/words",
  hook: "blocks.0.hook_resid_post",
  format: "saelens",
  activation: "relu",
  k: null,
  normalisation: "none",
  d_in: 8,
  d_sae: 64,
  precision: "f32",
  model_name: "org/words",
  metadata: { dataset: "words" },
};

describe("GET /v1/saes", () => {
  test("lists the SAEs of every model, aliases not counted", async () => {
    const { status, body } = await get("/v1/saes");
    expect(status).toBe(200);
    expect(body).toMatchObject({
      object: "list",
      data: [
        EARLY,
        { id: "late", model: "org/words", k: 6, activation: "top-k", precision: "q8", model_name: null, metadata: {} },
        { id: "late", model: "second", d_sae: 7 },
        { id: "release/layer_1/features", model: "second" },
      ],
    });
    expect(body).toHaveProperty("data.length", 4);
    expect(body).toHaveProperty("data[0]", EARLY);
  });

  test("lists those of one model, under the name that it is asked by", async () => {
    expect((await get("/v1/saes?model=words")).body).toMatchObject({ data: [{ model: "words" }, { id: "late" }] });
    expect((await get("/v1/saes?model=second")).body).toHaveProperty("data.length", 2);
    expect((await get("/v1/saes?model=org%2Fwords")).body).toHaveProperty("data.length", 2);
  });
});

describe("GET /v1/saes/{id}", () => {
  test("is that SAE of the first model that has it, or of the model asked about", async () => {
    expect((await get("/v1/saes/early")).body).toEqual(EARLY);
    expect((await get("/v1/saes/late")).body).toMatchObject({ model: "org/words", d_sae: 128 });
    expect((await get("/v1/saes/late?model=second")).body).toMatchObject({ model: "second", d_sae: 7 });
  });

  test.each(["release/layer_1/features", "release%2Flayer_1%2Ffeatures"])("takes slashes: %s", async (id) => {
    expect((await get(`/v1/saes/${id}`)).body).toMatchObject({ id: "release/layer_1/features" });
    const { body } = await get(`/v1/saes/${id}/features/3`);
    expect(body).toMatchObject({ sae: "release/layer_1/features", model: "second", feature: 3 });
  });

  test.each([
    "/v1/saes/nope",
    "/v1/saes/__proto__",
    "/v1/saes/constructor",
    "/v1/saes/early/features",
    "/v1/saes/early/features/",
    "/v1/saes/early/features/1/2",
    "/v1/saes/%zz",
    "/v1/saes/nope/features/1",
    "/v1/saes/early?model=second",
    "/v1/saes/early/features/1?model=second",
  ])("that is not there: 404 (%s)", async (path) => {
    expect(await refusal(path)).toMatchObject({ status: 404, param: "sae", code: "sae_not_found" });
  });

  test("that is far too long: 404", async () => {
    expect(await refusal(`/v1/saes/${"x".repeat(10_000)}`)).toMatchObject({ status: 404, code: "sae_not_found" });
  });

  test.each(["/v1/saes?model=nope", "/v1/saes/early?model=nope", "/v1/saes/early/features/1?model=__proto__"])(
    "of a model that is not there: 404 (%s)",
    async (path) => {
      expect(await refusal(path)).toMatchObject({ status: 404, param: "model", code: "model_not_found" });
    },
  );
});

describe("GET /v1/saes/{id}/features/{n}", () => {
  test("shows the feature through the output matrix and beside its neighbours", async () => {
    expect((await get("/v1/saes/early/features/63?top=2")).body).toEqual({
      object: "sae.feature",
      sae: "early",
      model: "org/words",
      feature: 63,
      decoder_norm: 7.3,
      top_tokens: [
        { token_id: 100, token: " w100", logit: 0.2 },
        { token_id: 101, token: " w101", logit: 0.1 },
      ],
      bottom_tokens: [
        { token_id: 500, token: " w500", logit: -0.2 },
        { token_id: 501, token: " w501", logit: -0.1 },
      ],
      nearest: [
        { feature: 0, cosine: 0.5 },
        { feature: 1, cosine: 0.33333334 },
      ],
    });
  });

  test("lists ten of each unless told", async () => {
    expect((await get("/v1/saes/early/features/0")).body).toHaveProperty("top_tokens.length", 10);
    expect((await get("/v1/saes/early/features/0?top=1000")).body).toHaveProperty("bottom_tokens.length", 1000);
  });

  test.each(["64", "abc", "-1", "1e9", "1.0", "0x1", "9".repeat(30), "%20", "__proto__"])(
    "that is not there: 404 (%s)",
    async (feature) => {
      const error = await refusal(`/v1/saes/early/features/${feature}`);
      expect(error).toMatchObject({ status: 404, param: "feature", code: "feature_not_found" });
      expect(error.message).toContain("0 to 63");
    },
  );

  test.each(["0", "1001", "-1", "abc", "", "1.5", "1e2", "Infinity", "99999999999"])(
    "with top=%s: 400",
    async (top) => {
      const error = await refusal(`/v1/saes/early/features/1?top=${top}`);
      expect(error).toMatchObject({ status: 400, param: "top", type: "invalid_request_error" });
    },
  );
});
