import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { expect, test } from "vitest";
import { ChatBody } from "../../server/openai/chat-request.js";
import { CompletionRequest } from "../../server/openai/completion-request.js";
import { HARMLESS_FIELDS, REFUSED_FIELDS } from "../../server/openai/known-fields.js";
import { scriptedEngine } from "./scripted-engine.js";
import { errorOf } from "./wire.js";
import { appOf } from "./with-server.js";

const VALUES: readonly unknown[] = [
  ...[null, true, false, "", "a", "none", "auto", "low", "text", "\ud800", "x".repeat(300)],
  ...[-1e308, -1, -0, 0, 5e-324, 0.5, 1, 2, 20, 1e15, 2 ** 53, 1e308],
  ...[[], [null], [0], [5, 7], [-1], [0.5], ["a"], [""], [[1]], [{}]],
  ...[{}, { a: 1 }, { 5: 1 }, { type: "text" }, { window: 8 }, { mode: "full" }, { include_usage: true }],
];
const UNKNOWN = ["temprature", "größe", "toString", "__proto__", "constructor", "", "a.b", "0"];

const ENDPOINTS = [
  { path: "/v1/completions", shape: CompletionRequest.shape, base: { prompt: "Once upon" } },
  { path: "/v1/chat/completions", shape: ChatBody.shape, base: { messages: [{ role: "user", content: "Once" }] } },
] as const;

test.each(ENDPOINTS)(
  "whatever a body of $path says, it is answered or refused by name",
  async ({ path, shape, base }) => {
    const app = appOf(scriptedEngine());
    const random = xoroshiro128plus(15);
    const pick = <T>(list: readonly T[]): T => list[uniformInt(random, 0, list.length - 1)]!;
    const own = Object.keys(shape).filter((name) => !/^(model|max_.*tokens)$/.test(name));
    const names = [own, own, [...REFUSED_FIELDS.keys()], [...HARMLESS_FIELDS], UNKNOWN];
    const isUnknown = (name: string) =>
      !Object.hasOwn(shape, name) && !REFUSED_FIELDS.has(name) && !HARMLESS_FIELDS.has(name);
    let answered = 0;
    for (let round = 0; round < 600; round++) {
      const asked = Array.from({ length: uniformInt(random, 1, 3) }, () => [pick(pick(names)), pick(VALUES)] as const);
      const body = new Map<string, unknown>([...Object.entries({ ...base, max_tokens: 2 }), ...asked]);
      const json = `{${[...body].map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join()}}`;
      const headers = { "Content-Type": "application/json" };
      const response = await app.request(path, { method: "POST", headers, body: json });
      if (response.status === 200) {
        answered += 1;
        const told = response.headers.get("x-ignored-fields")?.split(",") ?? [];
        const ignored = new Set([...body.keys()].filter(isUnknown).map(encodeURIComponent));
        expect([json, new Set(told)]).toEqual([json, ignored]);
        expect([json, await response.text()]).toEqual([json, expect.not.stringContaining('"error":{')]);
      } else {
        const { param } = await errorOf(response);
        const named = [...body.keys()].some(
          (name) => param === name || (param?.startsWith(name) && /^[.[]/.test(param.slice(name.length))),
        );
        expect([json, response.status, param, named]).toEqual([json, 400, param, true]);
      }
    }
    expect(answered).toBeGreaterThan(100);
  },
);
