import type { Context } from "hono";
import type { AppEnv } from "./exchange.js";
import { type FieldRules, ignoredFieldsHeader } from "./openai/request/check-fields.js";

/** Fields that nobody knows are told to the client in the header X-Ignored-Fields, and to the log. */
export function fieldRules(c: Context<AppEnv>, strictFields = false): FieldRules {
  return {
    strict: strictFields,
    ignored(names) {
      const list = ignoredFieldsHeader(names);
      c.header("X-Ignored-Fields", list);
      c.var.exchange.note({ ignoredFields: list });
    },
  };
}
