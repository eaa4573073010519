import { pino } from "pino";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { endEvent, impossible, type Script, scriptedEngine, wordEvent } from "./scripted-engine.js";
import { openTraces, readingsOf, SUBPROTOCOLS } from "./trace-wire.js";
import { completionOf } from "./wire.js";
import { appOf, complete, withServer } from "./with-server.js";

const generate = (id: string, body: object = {}) => ({
  type: "generate",
  id,
  prompt: "Once upon",
  max_tokens: 3,
  ...body,
});

describe.each(SUBPROTOCOLS)("over %s a generation", (subprotocol) => {
  test("begins, has every token in order with its readings, and ends", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const traces = await openTraces(url, subprotocol);
      expect(traces.socket.protocol).toBe(subprotocol);
      traces.send(generate("a"));
      await traces.have("end");
      const [start, ...rest] = traces.frames;
      expect(start).toEqual({
        type: "start",
        id: "a",
        index: 0,
        model: "org/words",
        prompt_tokens: 3,
        saes: ["early", "late"],
      });
      expect(rest.pop()).toEqual({
        type: "end",
        id: "a",
        index: 0,
        finish_reason: "length",
        stop_reason: null,
        text: "",
        usage: { prompt_tokens: 3, completion_tokens: 3, total_tokens: 6, prompt_tokens_details: { cached_tokens: 0 } },
      });
      expect(
        rest.map(({ type, seq, pos, token_id, text, logprob }) => [type, seq, pos, token_id, text, logprob]),
      ).toEqual([
        ["token", 0, 3, 100, " w100", -0.1],
        ["token", 1, 4, 101, " w101", -0.101],
        ["token", 2, 5, 102, " w102", -0.102],
      ]);
      expect(readingsOf(rest[0]).map(({ sae }) => sae)).toEqual(["early", "late"]);
      expect(readingsOf(rest[0])[0]?.idx).toHaveLength(100 % 7);
      traces.socket.close();
    });
  });

  test("says the same numbers as a completion does", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const body = { prompt: "Once upon a time", max_tokens: 20, features: { top: 3, prompt: true } };
      const traces = await openTraces(url, subprotocol);
      traces.send({ type: "generate", id: "a", ...body });
      const response = await fetch(`${url}/v1/completions`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ...body, logprobs: 0 }),
      });
      const Answer = z.object({
        choices: z.tuple([
          z.object({
            logprobs: z.object({ token_logprobs: z.array(z.number()) }),
            features: z.array(
              z.looseObject({ saes: z.array(z.looseObject({ top: z.array(z.tuple([z.number(), z.number()])) })) }),
            ),
          }),
        ]),
      });
      const [{ features, logprobs }] = Answer.parse(await response.json()).choices;
      await traces.have("end");
      const read = traces.frames.filter(({ type }) => type === "prompt" || type === "token");
      expect(read.map(({ pos, token_id, saes }) => ({ pos, token_id, saes }))).toEqual(
        features.map(({ saes, ...token }) => ({
          ...token,
          saes: saes.map(({ top, ...scalars }) => ({
            ...scalars,
            idx: top.map(([feature]) => feature),
            // bin holds f32; a JSON number is the shortest decimal of it.
            val: top.map(([, value]) => (subprotocol === "lambdatap.v1.json" ? value : Math.fround(value))),
          })),
        })),
      );
      expect(read.flatMap(({ logprob }) => logprob ?? [])).toEqual(logprobs.token_logprobs);
      traces.socket.close();
    });
  });
});

describe("a generation", () => {
  test("says -9999 for a log-probability of minus infinity, as a completion does", async () => {
    const engine = scriptedEngine({ script: impossible });
    await withServer(engine, async ({ url }) => {
      const traces = await openTraces(url);
      traces.send(generate("a"));
      await traces.have("end");
      const [choice] = (await completionOf(await complete(appOf(engine), { prompt: "a", logprobs: 0 }))).choices;
      expect(traces.frames.find(({ type }) => type === "token")?.logprob).toBe(-9999);
      expect(choice?.logprobs?.token_logprobs).toEqual([-9999]);
      traces.socket.close();
    });
  });

  test("has its prompt's tokens, with their texts, where features.prompt is true", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const traces = await openTraces(url);
      traces.send(generate("a", { features: { prompt: true, saes: ["late"] }, max_tokens: 0 }));
      await traces.have("end");
      expect(traces.frames.map(({ type, pos, text }) => [type, pos, text])).toEqual([
        ["start", undefined, undefined],
        ["prompt", 0, "<bos>"],
        ["prompt", 1, "Once"],
        ["prompt", 2, " upon"],
        ["end", undefined, ""],
      ]);
      expect(traces.frames[0]).toMatchObject({ saes: ["late"] });
    });
  });

  test("is read by all SAEs and has logprobs, unless it says otherwise or there are none", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const traces = await openTraces(url, null);
      traces.send(generate("none", { features: null, logprobs: null }));
      await traces.have("end");
      expect(traces.frames[1]).toMatchObject({ type: "token", saes: [], logprob: null });
      expect(traces.frames[0]).toMatchObject({ saes: [] });
    });
    const bare = scriptedEngine({ card: { saes: [] } });
    await withServer(bare, async ({ url }) => {
      const traces = await openTraces(url);
      traces.send(generate("none"), generate("asked", { features: {} }));
      await traces.have("end");
      await traces.have("error");
      expect(traces.of("none")[1]).toMatchObject({ type: "token", saes: [], logprob: -0.1 });
      expect(traces.of("asked")).toMatchObject([{ type: "error", index: null, error: { param: "features" } }]);
    });
  });

  test("costs the engine nothing that no frame shows", async () => {
    const engine = scriptedEngine();
    await withServer(engine, async ({ url }) => {
      const traces = await openTraces(url);
      const more = {
        stream: true,
        stream_options: { include_usage: true },
        echo: true,
        logprobs: 5,
        return_token_ids: true,
      };
      traces.send(generate("a", { ...more, best_of: 1, user: "me", unheard_of: 1 }));
      await traces.have("end");
      expect(engine.requests[0]).toMatchObject([{ logprobs: 0, promptLogprobs: null }]);
      expect(traces.frames.map(({ type }) => type)).toEqual(["start", "token", "token", "token", "end"]);
    });
  });

  test("of several prompts and copies says of each frame which choice it is of; all begin first", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const traces = await openTraces(url);
      traces.send(generate("a", { prompt: ["one", "one two"], n: 2 }));
      await traces.have("end", 4);
      expect(traces.frames.slice(0, 4).map(({ type, index, prompt_tokens }) => [type, index, prompt_tokens])).toEqual([
        ["start", 0, 2],
        ["start", 1, 2],
        ["start", 2, 3],
        ["start", 3, 3],
      ]);
      for (const choice of [0, 1, 2, 3]) {
        const own = traces.frames.filter(({ index }) => index === choice);
        expect(own.map(({ seq }) => seq)).toEqual([undefined, 0, 1, 2, undefined]);
      }
    });
  });

  test("loses a choice that fails, and only that", async () => {
    const engine = scriptedEngine({
      async *script(sequence, index) {
        yield wordEvent(sequence, index, 0);
        if (index === 0)
          yield { type: "error", index, error: { kind: "not_finite", message: "the logits are not numbers" } };
        else {
          yield wordEvent(sequence, index, 1);
          yield endEvent(sequence, index, 2);
        }
      },
    });
    await withServer(engine, async ({ url }) => {
      const traces = await openTraces(url);
      traces.send(generate("a", { n: 2 }));
      await traces.have("end");
      const told = traces.frames.map(({ type, index, seq, error }) => [type, index, seq ?? error?.code]);
      expect(told).toEqual([
        ["start", 0, undefined],
        ["start", 1, undefined],
        ["token", 0, 0],
        ["token", 1, 0],
        ["error", 0, "not_finite"],
        ["token", 1, 1],
        ["end", 1, undefined],
      ]);
    });
  });

  test("whose engine breaks or falls silent ends every open choice with an error", async () => {
    const script: Script = async function* (sequence, index) {
      yield wordEvent(sequence, index, 0);
      if (sequence.minTokens === 1) throw new Error("a bolt came off");
    };
    const lines: string[] = [];
    const logger = pino({}, { write: (line) => lines.push(line) });
    await withServer(
      scriptedEngine({ script }),
      async ({ url }) => {
        const traces = await openTraces(url);
        traces.send(generate("silent", { n: 2 }), generate("broken", { min_tokens: 1 }));
        await traces.have("error", 3);
        const errors = [...traces.of("silent"), ...traces.of("broken")].filter(({ type }) => type === "error");
        expect(errors.map(({ id, index, error }) => [id, index, error?.code])).toEqual([
          ["silent", 0, "internal"],
          ["silent", 1, "internal"],
          ["broken", 0, "internal"],
        ]);
        expect(lines.join("")).toContain("a bolt came off");
        expect(JSON.stringify(traces.frames)).not.toContain("bolt");
      },
      { logger },
    );
  });
});
