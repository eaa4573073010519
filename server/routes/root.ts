import { Hono } from "hono";
import { packageVersion } from "../../models/package-root.js";
import type { AppEnv } from "../exchange.js";
import type { ModelRegistry } from "../model-registry.js";
import { ENDPOINTS } from "./endpoints.js";

/** GET /: what answers here, for people and programs that know nothing but the address. */
export function root(models: ModelRegistry): Hono<AppEnv> {
  return new Hono<AppEnv>().get("/", (c) =>
    c.json({
      name: "lambdatap",
      version: packageVersion(),
      about: "Language models over OpenAI's protocol, with the features behind each token. Base URL of a client: /v1",
      models: models.list().map(({ name }) => name),
      endpoints: ENDPOINTS.map(({ method, path, about }) => ({ method, path, about })),
      docs: `README.md of lambdatap ${packageVersion()}`,
    }),
  );
}
