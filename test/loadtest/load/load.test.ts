import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { temporaryFolder } from "../../models/weights/write-safetensors.js";
import { whileServing } from "../../server/lambdatap-process.js";
import { type Script, scriptedEngine, words } from "../../server/scripted-engine.js";
import { until, withServer } from "../../server/with-server.js";
import { beginStream, json, LAMBDATAP_CARD, listModels, oneToken, withTarget } from "../scripted-target.js";
import { load, loadAsShipped } from "./run-load.js";

const QUICK = ["--seconds", "0.5", "--connections", "2", "--max-tokens", "8", "--prompt-words", "40"];

describe("load on the embedded model", () => {
  test("measures every scenario, counts 429 as answers of the overload, and writes tables and charts", async () => {
    const cache = temporaryFolder();
    await whileServing(["--queue-limit", "1", "--parallel", "1"], cache, async (url) => {
      const { code, out, report, folder } = await loadAsShipped([
        "--target",
        url,
        ...QUICK,
        "--connections",
        "1",
        "--overload",
        "6",
      ]);
      const figures = report?.figures ?? [];
      expect(figures.map(({ scenario }) => scenario)).toEqual([
        "short",
        "long",
        "streaming",
        "traces",
        "mixed",
        "overload",
      ]);
      for (const {
        scenario,
        answers,
        tokensPerSecond,
        answersPerSecond,
        latency,
        firstToken,
        betweenTokens,
      } of figures) {
        expect(answers).toBeGreaterThan(0);
        expect(latency?.p50).toBeGreaterThan(0);
        expect(tokensPerSecond).toBeGreaterThanOrEqual(answersPerSecond * 8);
        expect([firstToken, betweenTokens].every((times) => (times === null) === (scenario === "short"))).toBe(true);
      }
      const [short, long] = figures;
      expect(long?.promptTokens).toBeGreaterThan(short?.promptTokens ?? Number.POSITIVE_INFINITY);
      expect(figures.at(-1)?.refusals).toBeGreaterThan(0);
      expect(figures.flatMap(({ failures }) => failures.kinds)).toEqual([]);
      expect(code).toBe(0);
      expect(out).toMatch(/^Throughput\n {2}scenario +answers/);
      const markdown = readFileSync(join(folder, "load.md"), "utf8");
      expect(markdown).toContain("](load-latency.svg)");
      for (const chart of ["latency", "throughput"])
        expect(readFileSync(join(folder, `load-${chart}.svg`), "utf8")).toMatch(/^<svg .*<\/svg>$/s);
    });
  });
});

describe("two servers", () => {
  /** Each token takes a while, so that the other server is faster for certain. */
  const slow: Script = async function* (sequence, index, signal) {
    for await (const event of words(sequence, index)) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      signal.throwIfAborted();
      yield event;
    }
  };

  test("are measured in turns and compared round by round", async () => {
    await withServer(scriptedEngine(), async (quick) => {
      await withServer(scriptedEngine({ script: slow }), async ({ url }) => {
        const args = [
          "--target",
          url,
          "--target",
          quick.url,
          "--scenarios",
          "streaming,short",
          "--rounds",
          "2",
          ...QUICK,
        ];
        const { code, out, report } = await load([...args, "--seconds", "0.3", "--json"]);
        expect(code).toBe(0);
        expect(report?.figures.map(({ scenario, target, rounds }) => [scenario, target, rounds])).toEqual([
          ["short", "A", 2],
          ["short", "B", 2],
          ["streaming", "A", 2],
          ["streaming", "B", 2],
        ]);
        for (const { pairs, tokensPerSecond } of report?.comparisons ?? []) {
          expect(pairs).toBe(2);
          expect(tokensPerSecond).toBeGreaterThan(1);
        }
        expect(out.trim().split("\n")).toHaveLength(1);
        expect(JSON.parse(out)).toMatchObject({ command: "load", comparisons: [{ scenario: "short" }, {}] });
      });
    });
  });
});

describe("a server that is no lambdatap", () => {
  const answer = (body: Record<string, unknown>) =>
    oneToken(" w", { prompt_tokens: 3, completion_tokens: body.max_tokens });

  test("is not asked for traces, and the report says so; without usage on its stream the pieces count", async () => {
    const completions = (body: Record<string, unknown>, response: Parameters<typeof json>[0]) => {
      if (!body.stream) return json(response, answer(body));
      beginStream(response, " a", " b", " c");
      response.end("data: [DONE]\n\n");
    };
    await withTarget({ completions }, async ({ url }) => {
      const { code, out, report } = await load(["--target", url, "--scenarios", "streaming,traces,mixed", ...QUICK]);
      expect(code).toBe(0);
      expect(report?.skipped).toEqual([{ scenario: "traces", target: "A", why: "the server is no lambdatap" }]);
      expect(out).toContain("the server is no lambdatap");
      const [streaming] = report?.figures ?? [];
      expect((streaming?.tokensPerSecond ?? 0) / (streaming?.answersPerSecond ?? 1)).toBeCloseTo(3, 0);
      expect(streaming).toMatchObject({ promptTokens: null, memory: null });
    });
  });

  test("that refuses ignore_eos is asked without it, and the report says so", async () => {
    const completions = (body: Record<string, unknown>, response: Parameters<typeof json>[0]) =>
      "ignore_eos" in body
        ? json(response, { error: { message: "Unrecognized request argument supplied: ignore_eos" } }, 400)
        : json(response, answer(body));
    await withTarget({ completions }, async ({ url, asked }) => {
      const { code, folder } = await load(["--target", url, "--scenarios", "short", ...QUICK]);
      expect(code).toBe(0);
      expect(asked.filter((body) => "ignore_eos" in body)).toHaveLength(1);
      expect(readFileSync(join(folder, "load.md"), "utf8")).toContain("it does not know `ignore_eos`");
    });
  });

  test("may send several pieces at once, and an answer in pieces without any text", async () => {
    const piece = (text: string, reason: string | null = null) =>
      `data: ${JSON.stringify({ choices: [{ text, finish_reason: reason }] })}\n\n`;
    const completions = (body: Record<string, unknown>, response: Parameters<typeof json>[0]) => {
      if (!body.stream) return json(response, answer(body));
      beginStream(response);
      response.socket?.cork();
      for (const text of [" a", "", " b"]) response.write(piece(text));
      response.socket?.uncork();
      setTimeout(() => response.end(`${piece("", "length")}data: [DONE]\n\n`), 20);
    };
    await withTarget({ completions }, async ({ url }) => {
      const { report } = await load(["--target", url, "--scenarios", "streaming", ...QUICK]);
      const [figures] = report?.figures ?? [];
      // Three tokens: the event that only ends the answer is none.
      expect((figures?.tokensPerSecond ?? 0) / (figures?.answersPerSecond ?? 1)).toBeCloseTo(3, 0);
      expect(figures?.betweenTokens?.p95).toBeLessThan(20);
    });
  });

  test("may end the connection after each answer: that is no failure", async () => {
    const completions = (body: Record<string, unknown>, response: Parameters<typeof json>[0]) => {
      response.setHeader("connection", "close");
      json(response, answer(body));
    };
    await withTarget({ completions }, async ({ url }) => {
      const { code, report } = await load(["--target", url, "--scenarios", "short", ...QUICK]);
      expect(report?.figures[0]?.answers).toBeGreaterThan(2);
      expect(report?.figures[0]?.failures.kinds).toEqual([]);
      expect(code).toBe(0);
    });
  });
});

test("a server's memory is read from its health while it answers", async () => {
  let rss = 1_000_000;
  await withTarget(
    {
      models: (response) => listModels(response, { ...LAMBDATAP_CARD, saes: [] }),
      completions: (body, response) =>
        json(response, oneToken(" w", { prompt_tokens: 3, completion_tokens: body.max_tokens })),
      health: (response) => {
        rss += 1_000_000;
        json(response, { status: "ok", memory: { rss } });
      },
    },
    async ({ url }) => {
      const { report } = await load(["--target", url, "--scenarios", "short,traces", ...QUICK]);
      expect(report?.skipped).toMatchObject([{ why: "the model has no SAEs" }]);
      const memory = report?.figures[0]?.memory;
      expect(memory).toMatchObject({ start: 2_000_000, peak: memory?.end });
      expect(memory?.end).toBeGreaterThanOrEqual(4_000_000);
    },
  );
});

describe("an interrupted run", () => {
  test("writes what it has measured, says so, and ends with 130", async () => {
    const engine = scriptedEngine();
    await withServer(engine, async ({ url }) => {
      const args = ["--target", url, "--scenarios", "short,streaming", "--seconds", "20", "--max-tokens", "8"];
      const { code, err, report, folder } = await loadAsShipped(args, async (interrupt) => {
        await until(() => engine.requests.length > 20, 30_000);
        interrupt();
      });
      expect(code).toBe(130);
      expect(err).toContain("load: interrupted; what was measured until then is written");
      expect(report?.interrupted).toBe(true);
      expect(report?.figures).toHaveLength(1);
      expect(report?.figures[0]?.answers).toBeGreaterThan(0);
      expect(readFileSync(join(folder, "load.md"), "utf8")).toContain("**Interrupted**");
    });
  });

  test("that has measured nothing writes nothing", async () => {
    let interrupt = (): void => {};
    await withTarget({ models: () => interrupt() }, async ({ url }) => {
      const { code, err, folder } = await loadAsShipped(["--target", url], (how) => {
        interrupt = how;
      });
      expect(code).toBe(130);
      expect(err).toBe("load: interrupted\n");
      expect(existsSync(folder)).toBe(false);
    });
  });
});

test("a flag that is wrong is a sentence and the exit code 1; --help says what there is", async () => {
  expect(await loadAsShipped(["--seconds", "soon"])).toMatchObject({
    code: 1,
    out: "",
    err: "load: --seconds wants a number of seconds above 0, at most 86400, not 'soon'\n",
  });
  expect(await load(["--help"])).toMatchObject({ code: 0, out: expect.stringContaining("--overload <n>") });
});
