import type { Duplex } from "node:stream";
import { describe, expect, test } from "vitest";
import { WebSocketServer } from "ws";
import {
  beginStream,
  json,
  LAMBDATAP_CARD,
  listModels,
  oneToken,
  type TargetScript,
  withTarget,
} from "../scripted-target.js";
import { type Loaded, load } from "./run-load.js";

const QUICK = [
  "--seconds",
  "0.5",
  "--timeout",
  "0.5",
  "--connections",
  "2",
  "--max-tokens",
  "8",
  "--prompt-words",
  "40",
];
type Response = Parameters<typeof json>[0];

/** What a run against a server that does this says. */
async function loadOn(script: TargetScript, scenarios: string, ...args: string[]): Promise<Loaded> {
  let loaded: Loaded | undefined;
  await withTarget(script, async ({ url }) => {
    loaded = await load(["--target", url, "--scenarios", scenarios, ...QUICK, ...args]);
  });
  if (loaded === undefined) throw new Error("it did not run");
  return loaded;
}

/** A silence is waited for; where something else must fail, it must not: the machine may be busy. */
const patience = (kind: string): string[] => (kind === "timed out" ? ["--timeout", "2"] : []);

const kindsOf = ({ report }: Loaded) =>
  report?.figures.map(({ scenario, failures }) => [scenario, failures.kinds.map(({ kind }) => kind)]);

const whole = (response: Response): void => json(response, oneToken());
function stream(response: Response): void {
  beginStream(response, " a", " b");
  response.end("data: [DONE]\n\n");
}

describe("a server that cannot be loaded at all", () => {
  test("is named with the kind of its failure, in JSON where that was asked for", async () => {
    const gone = await load(["--target", "http://127.0.0.1:9", "--json"]);
    expect(gone).toMatchObject({ code: 1, report: null });
    expect(JSON.parse(gone.out)).toMatchObject({ command: "load", failure: { kind: "unreachable" } });
    expect(gone.err).toMatch(
      /^load: http:\/\/127\.0\.0\.1:9\/v1\/models cannot be reached: .*ECONNREFUSED.* \(unreachable\)\n$/,
    );
    const page: TargetScript["models"] = (response) => {
      response.writeHead(200, { "content-type": "text/html" }).end("<html>");
    };
    for (const models of [page, (response: Response) => json(response, {}, 404)]) {
      const foreign = await loadOn({ models }, "short");
      expect(foreign).toMatchObject({ code: 1, out: "", report: null, err: expect.stringContaining("(foreign)\n") });
    }
  });
});

describe("a server whose answers are wrong", () => {
  test.each([
    ["errors", "refused", (response) => json(response, { error: { message: "the engine is gone" } }, 500)],
    ["no JSON", "nonsense", (response) => response.end("<html>")],
    ["JSON of another kind", "nonsense", (response) => json(response, { answer: 42 })],
    [
      "more tokens than were asked for",
      "nonsense",
      (response) => json(response, oneToken(" w", { prompt_tokens: 3, completion_tokens: 9 })),
    ],
    ["a closed connection", "unreachable", (response) => response.destroy()],
    ["a reset connection", "unreachable", (response) => response.socket?.resetAndDestroy()],
    [
      "half an answer",
      "broken off",
      (response) => {
        response.writeHead(200, { "content-length": 100 }).write("{");
        setTimeout(() => response.destroy(), 20);
      },
    ],
    ["silence", "timed out", () => {}],
  ] satisfies [string, string, (response: Response) => void][])("%s: %s", async (_, kind, answer) => {
    const loaded = await loadOn(
      { completions: (_body, response) => answer(response) },
      "short",
      "--seconds",
      "20",
      ...patience(kind),
    );
    expect(loaded.code).toBe(1);
    expect(kindsOf(loaded)).toEqual([["short", [kind]]]);
    expect(loaded.report?.figures[0]).toMatchObject({ answers: 0, endedBy: ["failures"] });
    expect(loaded.out).toContain(kind);
  });
});

describe("a server whose streams are wrong", () => {
  test.each([
    ["stop in the middle", "timed out", (response) => beginStream(response, " a")],
    [
      "lose their connection in the middle",
      "broken off",
      (response) => {
        beginStream(response, " a");
        setTimeout(() => response.destroy(), 20);
      },
    ],
    [
      "end without [DONE]",
      "broken off",
      (response) => {
        beginStream(response, " a");
        response.end();
      },
    ],
    [
      "end in an error",
      "refused",
      (response) => {
        beginStream(response, " a");
        response.end(`data: {"error": {"message": "not finite"}}\n\ndata: [DONE]\n\n`);
      },
    ],
    [
      "are no JSON",
      "nonsense",
      (response) => {
        beginStream(response);
        response.end("data: hello\n\ndata: [DONE]\n\n");
      },
    ],
    ["are no streams", "nonsense", (response) => json(response, oneToken())],
  ] satisfies [string, string, (response: Response) => void][])("that %s: %s", async (_, kind, answer) => {
    const completions: TargetScript["completions"] = (body, response) => (body.stream ? answer : whole)(response);
    const loaded = await loadOn({ completions }, "streaming", ...patience(kind));
    expect(loaded.code).toBe(1);
    expect(kindsOf(loaded)).toEqual([["streaming", [kind]]]);
    if (kind === "timed out") expect(loaded.out).toContain("said nothing for 2 s");
  });

  test("now and then only is counted, and the connection goes on with another", async () => {
    let streams = 0;
    const completions: TargetScript["completions"] = (body, response) => {
      if (!body.stream) return whole(response);
      if (streams++ % 5 !== 2) return stream(response);
      beginStream(response, " a");
      setTimeout(() => response.destroy(), 10);
    };
    const loaded = await loadOn({ completions }, "streaming", "--seconds", "1.5");
    expect(loaded.code).toBe(1);
    expect(kindsOf(loaded)).toEqual([["streaming", ["broken off"]]]);
    const [figures] = loaded.report?.figures ?? [];
    expect(figures?.endedBy).toEqual([]);
    expect(figures?.failures.total).toBeGreaterThan(2);
    expect(figures?.answers).toBeGreaterThan(2 * (figures?.failures.total ?? 0));
  });
});

describe("a server that dies", () => {
  test("in the middle ends its scenario with what was measured, and is not asked again", async () => {
    let loaded: Loaded | undefined;
    await withTarget({ completions: (body, response) => (body.stream ? stream : whole)(response) }, async (target) => {
      const args = ["--target", target.url, "--scenarios", "short,long,streaming", ...QUICK, "--seconds", "20"];
      const deadline = setInterval(() => {
        if (target.asked.length < 50) return;
        clearInterval(deadline);
        void target.close();
      }, 10);
      loaded = await load(args);
    });
    expect(loaded?.code).toBe(1);
    const [short, long, ...rest] = loaded?.report?.figures ?? [];
    expect(rest).toEqual([]);
    expect(short?.answers).toBeGreaterThan(0);
    expect(short?.seconds).toBeLessThan(20);
    expect(short?.endedBy).toEqual(["failures"]);
    expect(short?.failures.kinds.some(({ kind }) => kind === "unreachable")).toBe(true);
    expect(long).toMatchObject({ answers: 0, failures: { kinds: [{ kind: "unreachable" }] } });
    expect(loaded?.report?.skipped).toMatchObject([
      { scenario: "streaming", why: "the server gave no answer any more" },
    ]);
  });
});

describe("an overloaded server", () => {
  const queueFull: TargetScript["completions"] = (_, response) =>
    json(response, { error: { message: "The queue is full" } }, 429);

  test("that answers 429 is refused in the overload scenario, and fails in any other", async () => {
    let asked = 0;
    const completions: TargetScript["completions"] = (body, response) =>
      asked++ % 3 === 2 ? queueFull(body, response) : (body.stream ? stream : whole)(response);
    const overload = await loadOn({ completions }, "overload", "--overload", "4", "--seconds", "2");
    expect(overload.code).toBe(0);
    expect(kindsOf(overload)).toEqual([["overload", []]]);
    expect(overload.report?.figures[0]?.refusals).toBeGreaterThan(0);
    const other = await loadOn({ completions }, "streaming");
    expect(other.code).toBe(1);
    expect(kindsOf(other)).toEqual([["streaming", ["refused"]]]);
  });

  test("that answers anything else there, or nothing but 429, fails", async () => {
    const gone: TargetScript["completions"] = (_, response) => json(response, { error: { message: "gone" } }, 503);
    const other = await loadOn({ completions: gone }, "overload", "--overload", "4");
    expect(other.code).toBe(1);
    expect(kindsOf(other)).toEqual([["overload", ["refused"]]]);
    const nothing = await loadOn({ completions: queueFull }, "overload", "--overload", "4");
    expect(nothing.code).toBe(1);
    expect(nothing.report?.figures[0]).toMatchObject({ answers: 0, failures: { total: 0 } });
  });
});

describe("a trace socket", () => {
  const upgrades = new WebSocketServer({ noServer: true });
  const opened =
    (use: (socket: import("ws").WebSocket) => void): TargetScript["upgrade"] =>
    (request, socket: Duplex) =>
      upgrades.handleUpgrade(request, socket, Buffer.alloc(0), use);
  const start = { type: "start", id: "0", index: 0, model: "words", prompt_tokens: 3, saes: [] };

  test.each([
    [
      "that closes before it answers",
      "unreachable",
      opened((socket) => socket.on("message", () => socket.close(1001))),
    ],
    [
      "that closes in the middle",
      "broken off",
      opened((socket) =>
        socket.on("message", () => {
          socket.send(JSON.stringify(start));
          setTimeout(() => socket.terminate(), 20);
        }),
      ),
    ],
    ["that says nothing", "timed out", opened(() => {})],
    ["that talks nonsense", "nonsense", opened((socket) => socket.on("message", () => socket.send("hello")))],
    [
      "that answers errors",
      "refused",
      opened((socket) =>
        socket.on("message", () => {
          const error = { message: "not finite", type: "server_error", param: null, code: "not_finite" };
          socket.send(JSON.stringify({ type: "error", id: "0", index: null, error }));
        }),
      ),
    ],
    ["that is none", "foreign", (_request, socket) => socket.end("HTTP/1.1 404 Not Found\r\n\r\n<html>")],
    ["that never opens", "timed out", () => {}],
    ["whose connection closes", "unreachable", (_request, socket) => socket.destroy()],
  ] satisfies [string, string, TargetScript["upgrade"]][])("%s: %s", async (_, kind, upgrade) => {
    const models: TargetScript["models"] = (response) => listModels(response, LAMBDATAP_CARD);
    const completions: TargetScript["completions"] = (_, response) => whole(response);
    const loaded = await loadOn({ models, completions, upgrade }, "traces", ...patience(kind));
    expect(loaded.code).toBe(1);
    expect(kindsOf(loaded)).toEqual([["traces", [kind]]]);
  });
});
