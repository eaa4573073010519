import { createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { complete, streamCompletion } from "../../loadtest/target/completion.js";
import { countFailures, TargetFailure } from "../../loadtest/target/failure.js";
import { openTarget, type Target } from "../../loadtest/target/target.js";
import { scriptedEngine } from "../server/scripted-engine.js";
import { withServer } from "../server/with-server.js";
import {
  beginStream,
  json,
  LAMBDATAP_CARD,
  listModels,
  oneToken,
  type TargetScript,
  withTarget,
} from "./scripted-target.js";

const BODY = { prompt: "Once upon", max_tokens: 4 };

async function failureOf(work: Promise<unknown>): Promise<TargetFailure> {
  const error = await work.then(
    () => new Error("it did not fail"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof TargetFailure)) throw error;
  return error;
}

async function textOf(target: Target, signal?: AbortSignal): Promise<string> {
  let text = "";
  for await (const { choice } of streamCompletion(target, BODY, signal)) text += choice?.text ?? "";
  return text;
}

/** How asking a server that does this fails. */
async function failing(script: TargetScript, ask: (target: Target) => Promise<unknown>): Promise<TargetFailure> {
  let failure: TargetFailure | undefined;
  await withTarget(script, async ({ url }) => {
    failure = await failureOf(ask(await openTarget({ url, timeoutMs: 300 })));
  });
  if (failure === undefined) throw new Error("it was not asked");
  return failure;
}

describe("a target that is opened", () => {
  test("says its first model, and whether it is a lambdatap; /v1 and slashes at the end are left out", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      for (const given of [url, `${url}/`, `${url}/v1`, `${url}/v1/`]) {
        const target = await openTarget({ url: given });
        expect(target).toMatchObject({ url, model: "org/words", lambdatap: { window: 32, sinks: 4 } });
      }
    });
    await withTarget({}, async ({ url }) => {
      expect(await openTarget({ url, model: "words" })).toMatchObject({ model: "words", lambdatap: null });
    });
    await withTarget({ models: (response) => listModels(response, LAMBDATAP_CARD) }, async ({ url }) => {
      expect((await openTarget({ url })).lambdatap).toEqual(LAMBDATAP_CARD);
    });
  });

  test("that nobody serves is unreachable, and so is what is no address", async () => {
    const opened = failureOf(openTarget({ url: "http://127.0.0.1:9" }));
    expect(await opened).toMatchObject({ kind: "unreachable", message: expect.stringContaining("ECONNREFUSED") });
    expect(await failureOf(openTarget({ url: "localhost:8080" }))).toMatchObject({ kind: "unreachable" });
  });

  test.each([
    ["a page", (response) => response.writeHead(200, { "content-type": "text/html" }).end("<html>hello</html>")],
    ["404", (response) => json(response, { error: "not found" }, 404)],
    ["another list", (response) => json(response, { models: ["a"] })],
    ["no model", (response) => json(response, { data: [] })],
  ] satisfies [string, TargetScript["models"]][])("that answers %s is foreign", async (_, models) => {
    await withTarget({ models }, async ({ url }) => {
      expect(await failureOf(openTarget({ url }))).toMatchObject({ kind: "foreign" });
    });
  });

  test("that does not speak HTTP is foreign", async () => {
    const server = createServer((socket) => socket.resume().end("220 mail.example ESMTP\r\n")).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const address = server.address();
    const port = typeof address === "object" ? address?.port : 0;
    expect(await failureOf(openTarget({ url: `http://127.0.0.1:${port}` }))).toMatchObject({ kind: "foreign" });
    await new Promise((resolve) => server.close(resolve));
  });

  test("that refuses the key, or has no such model, says so", async () => {
    await withTarget({ models: (response) => json(response, {}, 401) }, async ({ url }) => {
      expect(await failureOf(openTarget({ url }))).toMatchObject({ kind: "refused", status: 401 });
    });
    await withTarget({}, async ({ url }) => {
      const failure = await failureOf(openTarget({ url, model: "prose" }));
      expect(failure).toMatchObject({ kind: "refused", message: expect.stringContaining("'prose', but words") });
    });
  });

  test("that says nothing, or goes on for ever, is given up", async () => {
    await withTarget({ models: () => {} }, async ({ url }) => {
      expect(await failureOf(openTarget({ url, timeoutMs: 200 }))).toMatchObject({ kind: "timed out" });
    });
    let trickle: NodeJS.Timeout | undefined;
    const endless: TargetScript["models"] = (response) => {
      trickle = setInterval(() => response.write(" "), 20);
    };
    await withTarget({ models: endless }, async ({ url }) => {
      expect(await failureOf(openTarget({ url, timeoutMs: 300 }))).toMatchObject({ kind: "timed out" });
    });
    clearInterval(trickle);
  });

  test("is not called foreign where the user interrupts", async () => {
    const interruption = new AbortController();
    const why = new Error("enough");
    await withTarget({ models: () => interruption.abort(why) }, async ({ url }) => {
      await expect(openTarget({ url }, interruption.signal)).rejects.toBe(why);
    });
  });
});

describe("a completion", () => {
  test("comes whole and as a stream, with its usage, from the real server", async () => {
    await withServer(scriptedEngine(), async ({ url }) => {
      const target = await openTarget({ url });
      const whole = await complete(target, BODY);
      expect(whole.text).toBe(" w100 w101 w102 w103");
      expect(whole.usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 4 });
      expect(await textOf(target)).toBe(whole.text);
    });
  });

  test("goes to the target's model with its key and the body's own fields", async () => {
    const completions: TargetScript["completions"] = (_, response) => json(response, oneToken());
    await withTarget({ completions }, async ({ url, asked }) => {
      const target = await openTarget({ url, apiKey: "secret" });
      expect(target.headers).toEqual({ authorization: "Bearer secret" });
      await complete(target, { ...BODY, lm_infinite: { sinks: 0 } });
      expect(asked).toEqual([{ model: "words", ...BODY, lm_infinite: { sinks: 0 } }]);
    });
  });

  test.each([
    ["an error", "refused", (response) => json(response, { error: { message: "the engine is gone" } }, 500)],
    ["no JSON", "nonsense", (response) => response.end("<html>")],
    ["JSON without a choice", "nonsense", (response) => json(response, { choices: [], usage: {} })],
    [
      "half an answer",
      "broken off",
      (response) => response.writeHead(200, { "content-length": 100 }).write("{", () => response.destroy()),
    ],
    ["a closed connection", "unreachable", (response) => response.destroy()],
    ["silence", "timed out", () => {}],
    ["a beginning and silence", "timed out", (response) => response.write("{")],
  ] satisfies [string, string, TargetScript["models"]][])("answered with %s is %s", async (_, kind, answer) => {
    const failure = await failing({ completions: (_body, response) => answer(response) }, (target) =>
      complete(target, BODY),
    );
    expect(failure.kind).toBe(kind);
  });

  test("says what the server says", async () => {
    const completions: TargetScript["completions"] = (_, response) =>
      json(response, { error: { message: "the engine is gone" } }, 500);
    const failure = await failing({ completions }, (target) => complete(target, BODY));
    expect(failure).toMatchObject({ status: 500, message: expect.stringContaining("500: the engine is gone") });
  });

  test("is asked for again where the server closed a kept connection in the meantime", async () => {
    const completions: TargetScript["completions"] = (_, response) => {
      json(response, oneToken());
      // Without a word, as a server does whose time for idle connections is over.
      const { socket } = response;
      response.on("finish", () => setTimeout(() => socket?.resetAndDestroy(), 30));
    };
    await withTarget({ completions }, async ({ url }) => {
      const target = await openTarget({ url });
      for (let i = 0; i < 5; i++) {
        expect((await complete(target, BODY)).text).toBe(" w");
        const until = performance.now() + 60;
        while (performance.now() < until); // the event loop does not hear of the reset
      }
    });
  });
});

describe("a stream", () => {
  test.each([
    ["stops in the middle", "timed out", (response) => beginStream(response, " a")],
    [
      "ends before [DONE]",
      "broken off",
      (response) => {
        beginStream(response, " a");
        response.end();
      },
    ],
    [
      "loses its connection",
      "broken off",
      (response) => {
        beginStream(response, " a");
        setTimeout(() => response.destroy(), 20);
      },
    ],
    [
      "ends in an error",
      "refused",
      (response) => {
        beginStream(response);
        response.write(`data: {"error": {"message": "not finite"}}\n\n`);
      },
    ],
    [
      "is no JSON",
      "nonsense",
      (response) => {
        beginStream(response);
        response.write("data: hello\n\n");
      },
    ],
    ["is no stream", "nonsense", (response) => json(response, oneToken())],
  ] satisfies [string, string, TargetScript["models"]][])("that %s is %s", async (_, kind, answer) => {
    const failure = await failing({ completions: (_body, response) => answer(response) }, (target) => textOf(target));
    expect(failure.kind).toBe(kind);
  });

  test("may take any time as long as something comes, comments too", async () => {
    const completions: TargetScript["completions"] = (_, response) => {
      beginStream(response);
      let pings = 0;
      const timer = setInterval(() => {
        response.write(": ping\n\n");
        if (++pings < 6) return;
        clearInterval(timer);
        response.end(`data: ${JSON.stringify({ choices: [{ text: " late" }] })}\n\ndata: [DONE]\n\n`);
      }, 100);
    };
    await withTarget({ completions }, async ({ url }) => {
      expect(await textOf(await openTarget({ url, timeoutMs: 400 }))).toBe(" late");
    });
  });

  test("is not silent while its reader does something else", async () => {
    const completions: TargetScript["completions"] = (_, response) => {
      beginStream(response, " a");
      setTimeout(() => response.write(`data: ${JSON.stringify({ choices: [{ text: " b" }] })}\n\n`), 50);
      setTimeout(() => response.end("data: [DONE]\n\n"), 100);
    };
    await withTarget({ completions }, async ({ url }) => {
      const target = await openTarget({ url, timeoutMs: 400 });
      const texts: string[] = [];
      for await (const { choice } of streamCompletion(target, BODY)) {
        texts.push(choice?.text ?? "");
        await pause(600);
      }
      expect(texts).toEqual([" a", " b"]);
    });
  });

  test("hangs up when its reader leaves, and throws the signal's reason when it aborts", async () => {
    let gone = 0;
    const completions: TargetScript["completions"] = (_, response) => {
      beginStream(response, " a");
      response.on("close", () => {
        gone += 1;
      });
    };
    await withTarget({ completions }, async ({ url }) => {
      const target = await openTarget({ url });
      for await (const _ of streamCompletion(target, BODY)) break;
      await expect.poll(() => gone).toBe(1);
      const interruption = new AbortController();
      const why = new Error("enough");
      setTimeout(() => interruption.abort(why), 50);
      await expect(textOf(target, interruption.signal)).rejects.toBe(why);
      await expect.poll(() => gone).toBe(2);
    });
  });
});

test("failures are counted by kind, with the first message of each", () => {
  const failures = [
    new TargetFailure("refused", "first"),
    new TargetFailure("timed out", "silence"),
    new TargetFailure("refused", "second"),
  ];
  expect(countFailures(failures)).toEqual({
    total: 3,
    kinds: [
      { kind: "refused", count: 2, example: "first" },
      { kind: "timed out", count: 1, example: "silence" },
    ],
  });
});
