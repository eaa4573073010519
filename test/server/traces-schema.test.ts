import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import type { Engine } from "../../runtime/contract/generation.js";
import { smallEngines } from "../runtime/engine/small-engine.js";
import { endEvent, scriptedEngine, wordEvent } from "./scripted-engine.js";
import { openTraces, SUBPROTOCOLS, type Subprotocol, type WireFrame } from "./trace-wire.js";
import { appOf, until, withServer } from "./with-server.js";

const { startEngine } = smallEngines();

const Schema = z.looseObject({ $defs: z.record(z.string(), z.looseObject({})) });

/** What the server publishes, compiled. */
async function published() {
  const response = await appOf(scriptedEngine()).request("/v1/traces/schema.json");
  expect(response.headers.get("content-type")).toBe("application/schema+json");
  const schema = Schema.parse(await response.json());
  const ajv = new Ajv2020({ strict: true, allowUnionTypes: true });
  ajv.addSchema(schema, "traces");
  const definition = (name: string): ValidateFunction => ajv.compile({ $ref: `traces#/$defs/${name}` });
  return { schema, fromServer: definition("ServerFrame"), toServer: definition("ClientMessage") };
}

/** One generation that ends, one that is cancelled, one that fails, two that are refused. */
const MESSAGES = [
  {
    type: "generate",
    id: "whole",
    prompt: "Once upon",
    max_tokens: 4,
    features: { prompt: true, top: 4 },
    ignore_eos: true,
  },
  {
    type: "generate",
    id: "bare",
    prompt: [5, 6],
    max_tokens: 2,
    features: null,
    logprobs: null,
    ignore_eos: true,
    stop: ["\n\n\n\n"],
  },
  { type: "generate", id: "endless", prompt: "Once", max_tokens: null, ignore_eos: true },
  { type: "generate", id: "wrong", prompt: "Once", edits: [{ sae: "nope", feature: 1, op: "add", value: 2 }] },
] as const;

async function framesOf(engine: Engine, subprotocol: Subprotocol): Promise<WireFrame[]> {
  let frames: WireFrame[] = [];
  await withServer(engine, async ({ url }) => {
    const traces = await openTraces(url, subprotocol);
    traces.send(...MESSAGES, { type: "generate", n: 2 });
    await until(() => traces.of("endless").some(({ type }) => type === "token"));
    traces.send({ type: "cancel", id: "endless" });
    await traces.have("end", 3);
    await traces.have("error", 2);
    traces.socket.close();
    frames = traces.frames;
  });
  return frames;
}

/** What a frame is of, as far as its fields differ. */
const kind = ({ type, id, index, finish_reason }: WireFrame) =>
  `${finish_reason ?? type}${index === null ? (id === null ? " to nobody" : " to a message") : ""}`;

describe.each(SUBPROTOCOLS)("frames over %s", (subprotocol) => {
  test.each<[string, () => Promise<Engine>]>([
    ["of a scripted engine", async () => scriptedEngine()],
    ["of the embedded model and its SAEs", () => startEngine({ model: "models/default" })],
  ])("%s are as the published schema has them, and nothing else", async (_, start) => {
    const { fromServer } = await published();
    const frames = await framesOf(await start(), subprotocol);
    expect(new Set(frames.map(kind))).toEqual(
      new Set(["start", "prompt", "token", "length", "cancelled", "error to a message", "error to nobody"]),
    );
    for (const frame of frames) expect([frame, fromServer(frame), fromServer.errors]).toEqual([frame, true, null]);
    expect(frames.some(({ saes }) => Array.isArray(saes) && saes.length > 0 && typeof saes[0] === "object")).toBe(true);

    for (const name of new Set(frames.map(kind))) {
      const frame = frames.findLast((other) => kind(other) === name);
      for (const changed of neighbours(frame)) expect([changed, fromServer(changed)]).toEqual([changed, false]);
    }
  });

  test("of a choice that fails, or meets a stop, are, too", async () => {
    const { fromServer } = await published();
    const engine = scriptedEngine({
      async *script(sequence, index) {
        yield wordEvent(sequence, index, 0);
        if (index === 0) yield { type: "error", index, error: { kind: "not_finite", message: "no numbers" } };
        else yield endEvent(sequence, index, 1, "stop", index === 1 ? "\n" : index === 2 ? 7 : null);
      },
    });
    await withServer(engine, async ({ url }) => {
      const traces = await openTraces(url, subprotocol);
      traces.send({ type: "generate", id: "a", prompt: "a", n: 4 });
      await traces.have("end", 3);
      expect(traces.frames.flatMap(({ stop_reason }) => (stop_reason === undefined ? [] : [stop_reason]))).toEqual([
        "\n",
        7,
        null,
      ]);
      for (const frame of traces.frames) expect([frame, fromServer(frame)]).toEqual([frame, true]);
    });
  });
});

test("messages that the server takes are as the published schema has them; those it refuses are not", async () => {
  const { toServer } = await published();
  for (const message of [...MESSAGES, { type: "cancel", id: "a" }])
    expect([message, toServer(message)]).toEqual([message, true]);
  const generate = { type: "generate", id: "a" };
  for (const wrong of [
    {},
    { type: "generate" },
    { type: "stop", id: "a" },
    { type: "cancel", id: 5 },
    { ...generate, prompt: 5 },
    { ...generate, max_tokens: -2 },
    { ...generate, logit_bias: { "5": 101 } },
    { ...generate, features: { tops: 5 } },
    { ...generate, features: { saes: [5] } },
    { ...generate, edits: [{ sae: "a", feature: 1, op: "grow", value: 1 }] },
  ]) {
    expect([wrong, toServer(wrong)]).toEqual([wrong, false]);
  }
});

test("every field that a client sends is described", async () => {
  const { schema } = await published();
  const { properties } = z
    .looseObject({ properties: z.record(z.string(), z.looseObject({})) })
    .parse(schema.$defs.GenerateMessage);
  const undescribed = Object.keys(properties).filter(
    (name) => !["type", "anyOf", "enum"].some((word) => word in (properties[name] ?? {})),
  );
  expect(undescribed).toEqual([]);
});

test("every object that the server sends is closed", async () => {
  const { schema } = await published();
  const open: string[] = [];
  const look = (value: unknown, at: string): void => {
    if (typeof value !== "object" || value === null) return;
    if (
      "type" in value &&
      value.type === "object" &&
      !("additionalProperties" in value && value.additionalProperties === false)
    )
      open.push(at);
    for (const [key, inner] of Object.entries(value)) look(inner, `${at}/${key}`);
  };
  for (const [name, definition] of Object.entries(schema.$defs)) if (!name.endsWith("Message")) look(definition, name);
  expect(open).toEqual([]);
});

/** The value with one field less, one more, or one of another type, at every depth. */
function* neighbours(value: unknown): Generator<unknown> {
  if (Array.isArray(value)) {
    for (const changed of neighbours(value[0])) yield [changed, ...value.slice(1)];
    return;
  }
  if (typeof value !== "object" || value === null) return;
  yield { ...value, surplus: 1 };
  for (const [key, inner] of Object.entries(value)) {
    const { [key]: _, ...rest }: Record<string, unknown> = { ...value };
    yield rest;
    yield { ...value, [key]: Array.isArray(inner) ? "text" : [inner] };
    yield { ...value, [key]: { inner } };
    for (const changed of neighbours(inner)) yield { ...value, [key]: changed };
  }
}
