import fc from "fast-check";
import { expect, test } from "vitest";
import { ChatBody } from "../../server/openai/request/chat-request.js";
import { CompletionRequest } from "../../server/openai/request/completion-request.js";
import { HARMLESS_FIELDS, REFUSED_FIELDS } from "../../server/openai/request/known-fields.js";
import { scriptedEngine } from "./scripted-engine.js";
import { errorOf } from "./wire.js";
import { appOf } from "./with-server.js";

const values = fc.oneof(
  fc.constantFrom("none", "auto", "low", "text", { type: "text" }, { window: 8 }, { include_usage: true }, [5, 7]),
  fc.constantFrom(null, true, false, "", [], {}, -1, 0, 0.5, 1, 2, 1e308, "x".repeat(300)),
  fc.jsonValue(),
);
const unknown = fc.oneof(
  fc.constantFrom("temprature", "größe", "toString", "__proto__", "constructor", "", "a.b", "0", "a,b\r\nc"),
  fc.string({ unit: "grapheme", maxLength: 20 }),
);

const ENDPOINTS = [
  { path: "/v1/completions", shape: CompletionRequest.shape, base: { prompt: "Once upon" } },
  { path: "/v1/chat/completions", shape: ChatBody.shape, base: { messages: [{ role: "user", content: "Once" }] } },
] as const;

test.each(ENDPOINTS)("any fields of $path are obeyed, taken, told or refused, each by its name", async (endpoint) => {
  const { path, shape, base } = endpoint;
  const app = appOf(scriptedEngine());
  const own = Object.keys(shape).filter((name) => !/^(model|max_.*tokens)$/.test(name));
  const [refused, harmless] = [[...REFUSED_FIELDS.keys()], [...HARMLESS_FIELDS]];
  const isUnknown = (name: string) =>
    !Object.hasOwn(shape, name) && !REFUSED_FIELDS.has(name) && !HARMLESS_FIELDS.has(name);
  const names = fc.oneof(
    { arbitrary: fc.constantFrom(...own), weight: 2 },
    fc.constantFrom(...refused),
    fc.constantFrom(...harmless),
    unknown,
  );
  const fields = fc.array(fc.tuple(names, values), { minLength: 1, maxLength: 3 });
  const property = fc.asyncProperty(fields, async (asked) => {
    const body = new Map<string, unknown>([...Object.entries({ ...base, max_tokens: 2 }), ...asked]);
    const response = await app.request(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: `{${[...body].map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join()}}`,
    });
    if (response.status === 200) {
      const ignored = [...body.keys()].filter(isUnknown).map(encodeURIComponent);
      expect(response.headers.get("x-ignored-fields")?.split(",").sort() ?? []).toEqual(ignored.sort());
      expect(await response.text()).not.toContain('"error":{');
    } else {
      const { param } = await errorOf(response);
      expect(response.status).toBe(400);
      expect([...body.keys()].some((name) => param === name || /^[.[]/.test(afterName(param, name)))).toBe(true);
    }
  });
  await fc.assert(property, { seed: 15, numRuns: 500 });
});

const afterName = (param: string | null, name: string): string =>
  param?.startsWith(name) ? param.slice(name.length) : "";
