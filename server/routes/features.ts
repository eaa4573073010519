import { Hono } from "hono";
import { readJson } from "../body.js";
import type { AppEnv } from "../exchange.js";
import type { ModelRegistry } from "../model-registry.js";
import { parseTextFeaturesRequest, toReadSequences } from "../openai/request/text-features-request.js";
import { inputPieces, textFeatures, textFeaturesChunks } from "../openai/text-features.js";
import { replyTo } from "../reply.js";
import type { CompletionSettings } from "./completions.js";

/** POST /v1/features: what the SAEs say of every token of a given text; nothing is generated. */
export function features(
  models: ModelRegistry,
  settings: Pick<CompletionSettings, "maxBodyBytes" | "pingMs">,
): Hono<AppEnv> {
  return new Hono<AppEnv>().post("/v1/features", async (c) => {
    const request = parseTextFeaturesRequest(await readJson(c.req.raw, settings.maxBodyBytes));
    const { name, engine } = models.get(request.model);
    const { sequences, promptTokens } = await toReadSequences(request, engine);
    const reply = replyTo(c, settings.pingMs, () => ({ model: name, promptTokens }));
    const events = engine.generate(sequences, reply.signal); // refuses here, while a status can still say so
    const pieces = inputPieces(events, sequences, engine);
    return request.stream
      ? reply.stream(textFeaturesChunks(name, pieces, promptTokens))
      : reply.whole(textFeatures(name, pieces, sequences.length, promptTokens));
  });
}
