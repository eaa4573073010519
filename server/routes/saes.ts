import { Hono } from "hono";
import { InvalidRequest } from "../../runtime/contract/errors.js";
import type { SaeCard, TokenLogit } from "../../runtime/contract/features.js";
import type { Engine } from "../../runtime/contract/generation.js";
import { UnknownFeature, UnknownSae } from "../errors.js";
import type { AppEnv } from "../exchange.js";
import type { ModelRegistry } from "../model-registry.js";
import { toWireFloat } from "../openai/features.js";

/**
 * GET /v1/saes, GET /v1/saes/{id} and GET /v1/saes/{id}/features/{n}, all with ?model=. Without it the list is of all
 * models, and an id is that of the first model that has such an SAE.
 */
export function saes(registry: ModelRegistry): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .get("/v1/saes", (c) => c.json({ object: "list", data: attached(registry, c.req.query("model")).map(toSaeObject) }))
    .get("/v1/saes/:path{.+}", async (c) => {
      // Taken apart here: an id may hold slashes, which a parameter of Hono can do only where it is the last.
      const path = c.req.param("path");
      const [, id = path, feature] = /^(.+)\/features\/([^/]*)$/.exec(path) ?? [];
      const sae = attached(registry, c.req.query("model")).find(({ card }) => card.id === id);
      if (sae === undefined) throw new UnknownSae(id);
      return c.json(
        feature === undefined ? toSaeObject(sae) : await toFeatureObject(sae, feature, readTop(c.req.query("top"))),
      );
    });
}

interface AttachedSae {
  readonly card: SaeCard;
  readonly model: string;
  readonly engine: Engine;
}

/** @throws UnknownModel. */
function attached(registry: ModelRegistry, model: string | undefined): AttachedSae[] {
  const models =
    model === undefined
      ? registry.engines().map((engine) => ({ name: engine.card.id, engine }))
      : [registry.get(model)];
  return models.flatMap(({ name, engine }) => engine.card.saes.map((card) => ({ card, model: name, engine })));
}

function toSaeObject({ card, model }: AttachedSae) {
  return {
    object: "sae",
    id: card.id,
    model,
    hook: card.hook,
    format: card.format,
    activation: card.activation,
    k: card.k,
    normalisation: card.normalisation,
    d_in: card.dIn,
    d_sae: card.dSae,
    precision: card.precision,
    model_name: card.modelName,
    metadata: card.metadata,
  };
}

async function toFeatureObject({ card, model, engine }: AttachedSae, feature: string, top: number) {
  const number = Number(feature);
  if (!/^\d{1,15}$/.test(feature) || number >= card.dSae) throw new UnknownFeature(feature, card.id, card.dSae);
  const { decoderNorm, topTokens, bottomTokens, nearest } = await engine.describeFeature(card.id, number, top);
  const toWireTokens = (tokens: readonly TokenLogit[]) => {
    const texts = engine.tokenTexts(tokens.map(({ tokenId }) => tokenId));
    return tokens.map(({ tokenId, logit }, i) => ({ token_id: tokenId, token: texts[i], logit: toWireFloat(logit) }));
  };
  return {
    object: "sae.feature",
    sae: card.id,
    model,
    feature: number,
    decoder_norm: toWireFloat(decoderNorm),
    top_tokens: toWireTokens(topTokens),
    bottom_tokens: toWireTokens(bottomTokens),
    nearest: nearest.map(({ feature: other, cosine }) => ({ feature: other, cosine: toWireFloat(cosine) })),
  };
}

/** How many tokens and neighbours a description lists. */
function readTop(top = "10"): number {
  const count = /^\d{1,4}$/.test(top) ? Number(top) : 0;
  if (count >= 1 && count <= 1000) return count;
  throw new InvalidRequest("expected a whole number from 1 to 1000", "top");
}
