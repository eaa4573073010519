import { Hono } from "hono";
import type { AppEnv } from "../exchange.js";
import type { ModelRegistry, NamedModel } from "../model-registry.js";

/** GET /v1/models and GET /v1/models/{name} (OpenAI; what we know beyond it is under `lambdatap`). */
export function models(registry: ModelRegistry): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .get("/v1/models", (c) => c.json({ object: "list", data: registry.list().map(toModelObject) }))
    .get("/v1/models/:name{.+}", (c) => c.json(toModelObject(registry.get(c.req.param("name")))));
}

function toModelObject({ name, engine: { card } }: NamedModel) {
  return {
    id: name,
    object: "model",
    created: card.created,
    owned_by: "lambdatap",
    lambdatap: {
      alias_of: name === card.id ? null : card.id,
      architecture: card.architecture,
      precision: card.precision,
      kv: card.kv,
      device: card.device,
      hardware: card.hardware === "" ? null : card.hardware,
      window: card.window,
      sinks: card.sinks,
      parallel: card.parallel,
      archive_tokens: card.archiveTokens,
      trained_length: card.trainedLength,
      longest: card.longest,
      vocab_size: card.vocabSize,
      layers: card.layers,
      hidden_size: card.hiddenSize,
      hooks: card.hooks,
      saes: card.saes.map(({ id }) => id),
      has_tokenizer: card.hasTokenizer,
      has_chat_template: card.hasChatTemplate,
      bos_token_id: card.bosTokenId,
      adds_bos: card.frame.before.length > 0,
      tokens_before: card.frame.before,
      tokens_after: card.frame.after,
      eos_token_ids: card.eosTokenIds,
      sampling: {
        temperature: card.sampling.temperature ?? 1,
        top_p: card.sampling.topP ?? 1,
        top_k: card.sampling.topK ?? 0,
        min_p: card.sampling.minP ?? 0,
        repetition_penalty: card.sampling.repetitionPenalty ?? 1,
      },
    },
  };
}
