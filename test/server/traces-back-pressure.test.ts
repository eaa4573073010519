import { describe, expect, test } from "vitest";
import * as z from "zod";
import { endEvent, type Script, type ScriptedEngine, scriptedEngine, wordEvent, words } from "./scripted-engine.js";
import { openTraces, type RawTraces, SUBPROTOCOLS } from "./trace-wire.js";
import { serve, until, withServer } from "./with-server.js";

const TOTAL = 1000;
const BIG = "x".repeat(30_000);

/** Together far more than the system's own buffers hold. */
const bigWords: Script = async function* (sequence, index) {
  for (let seq = 0; seq < TOTAL; seq++) yield wordEvent(sequence, index, seq, `${seq}:${BIG}`);
  yield endEvent(sequence, index, TOTAL);
};

const generate = (id: string, body: object = {}) => ({ type: "generate", id, prompt: "a", max_tokens: null, ...body });

/** Full sockets show as an engine that is not asked any more: the same count over many turns of the loop. */
async function stopsTaking(engine: ScriptedEngine): Promise<void> {
  await until(() => engine.taken > 0);
  let before = -1;
  for (let same = 0; same < 20; ) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    same = engine.taken === before ? same + 1 : 0;
    before = engine.taken;
  }
}

const Health = z.looseObject({ queued_bytes: z.number() });
const queuedBytes = async (url: string) => Health.parse(await (await fetch(`${url}/health`)).json()).queued_bytes;

describe.each(SUBPROTOCOLS)("a reader that stops, over %s", (subprotocol) => {
  test("makes its engine wait, again and again, and loses nothing", async () => {
    const engine = scriptedEngine({ script: bigWords });
    await withServer(engine, async ({ url }) => {
      const traces = await openTraces(url, subprotocol);
      traces.send(generate("a"));
      for (let stop = 1; stop <= 3; stop++) {
        await traces.have("token", stop * 20);
        traces.socket.pause();
        await stopsTaking(engine);
        expect(engine.taken).toBeLessThan(TOTAL);
        const queued = await queuedBytes(url);
        expect(queued).toBeGreaterThanOrEqual(64 << 10);
        expect(queued).toBeLessThan((64 << 10) + 40_000);
        traces.socket.resume();
      }
      await traces.have("end");
      expect(traces.frames.flatMap(({ seq }) => seq ?? [])).toEqual(Array.from({ length: TOTAL }, (_, i) => i));
      expect(traces.frames.filter(({ text }) => text?.endsWith(BIG))).toHaveLength(TOTAL);
      traces.socket.close();
    });
  });
});

describe("a reader that stops", () => {
  /** min_tokens 1 asks for big words, others get small ones; `big` counts the former. */
  function mixedEngine(total: number) {
    const made = { big: 0, cancelled: false };
    const engine = scriptedEngine({
      async *script(sequence, index, signal) {
        if (sequence.minTokens === 0) return yield* words(sequence, index);
        signal.addEventListener("abort", () => {
          made.cancelled = true;
        });
        for (let seq = 0; seq < total && !signal.aborted; seq++) {
          made.big += 1;
          yield wordEvent(sequence, index, seq, BIG);
        }
        const error = { kind: "stalled", message: "the reader took nothing for 60 s" } as const;
        yield sequence.ignoreEos ? { type: "error", index, error } : endEvent(sequence, index, total);
      },
    });
    return { engine, made };
  }
  const big = (id: string, body: object = {}) => generate(id, { min_tokens: 1, features: null, ...body });

  /** Until another socket has heard much, and the stopped one's engine was not asked. */
  async function stopped(made: { readonly big: number }, other: RawTraces): Promise<void> {
    for (let before = -1; before !== made.big; ) {
      before = made.big;
      const heard = other.frames.length;
      await until(() => other.frames.length > heard + 100);
    }
  }

  test("stops all its generations within one bound, and nobody else's", async () => {
    const { engine, made } = mixedEngine(250);
    await withServer(engine, async ({ url }) => {
      const [slow, other] = [await openTraces(url), await openTraces(url)];
      other.send(generate("other"));
      slow.socket.pause();
      slow.send(...["a", "b", "c", "d"].map((id) => big(id)));
      await until(() => made.big > 10);
      await stopped(made, other);
      expect(made.big).toBeLessThan(4 * 250);
      expect(await queuedBytes(url)).toBeLessThan((64 << 10) + 40_000);
      slow.socket.resume();
      await slow.have("end", 4);
      for (const id of ["a", "b", "c", "d"]) {
        expect(slow.of(id).flatMap(({ seq }) => seq ?? [])).toEqual(Array.from({ length: 250 }, (_, i) => i));
      }
    });
  });

  test("can cancel meanwhile", async () => {
    const { engine, made } = mixedEngine(1000);
    await withServer(engine, async ({ url }) => {
      const [slow, other] = [await openTraces(url), await openTraces(url)];
      other.send(generate("other"));
      slow.socket.pause();
      slow.send(big("a"));
      await stopped(made, other);
      slow.send({ type: "cancel", id: "a" });
      await until(() => made.cancelled);
      slow.socket.resume();
      await slow.have("end");
      expect(slow.frames.at(-1)).toMatchObject({ finish_reason: "cancelled" });
      expect(made.big).toBeLessThan(1000);
    });
  });

  test("hears, when it reads on, that the engine has given it up, after all that came before", async () => {
    const { engine, made } = mixedEngine(400);
    await withServer(engine, async ({ url }) => {
      const [slow, other] = [await openTraces(url), await openTraces(url)];
      other.send(generate("other"));
      slow.socket.pause();
      slow.send(big("a", { ignore_eos: true }));
      await stopped(made, other);
      slow.socket.resume();
      await slow.have("error");
      expect(slow.frames.flatMap(({ seq }) => seq ?? [])).toEqual(Array.from({ length: 400 }, (_, i) => i));
      expect(slow.frames.at(-1)).toMatchObject({ id: "a", index: 0, error: { code: "stalled" } });
    });
  });

  test("and goes away, or is cut off when the server drains, stops its generations", async () => {
    const { engine, made } = mixedEngine(1000);
    const server = await serve(engine);
    const [gone, cut, other] = [
      await openTraces(server.url),
      await openTraces(server.url),
      await openTraces(server.url),
    ];
    other.send(generate("other"));
    for (const traces of [gone, cut]) {
      traces.socket.pause();
      traces.send(big("a"));
    }
    await stopped(made, other);
    gone.socket.terminate();
    await until(() => engine.stopped === 1);
    other.socket.close();
    await until(() => engine.stopped === 2);
    expect(await server.drain(50)).toBe(1);
    await until(() => engine.stopped === 3);
  });
});
