import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { lambdatapInProcess } from "./lambdatap-in-process.js";
import { openTraces } from "./trace-wire.js";
import { eventsOf, until } from "./with-server.js";

const main = fileURLToPath(new URL("../../server/cli/main.js", import.meta.url));
const cache = mkdtempSync(join(tmpdir(), "lambdatap-cli-"));
afterAll(() => rmSync(cache, { recursive: true, force: true }));

interface Running {
  readonly child: ChildProcess;
  readonly out: () => string;
  readonly err: () => string;
  /** Exit code and signal. */
  readonly exit: Promise<unknown[]>;
}

function lambdatap(...args: string[]): Running {
  const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, LAMBDATAP_CACHE: cache } });
  let out = "";
  let err = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  return { child, out: () => out, err: () => err, exit: once(child, "close") };
}

async function serving(...args: string[]): Promise<Running & { readonly url: string }> {
  const running = lambdatap("serve", "--port", "0", ...args);
  await until(() => running.out().includes("curl ") || running.child.exitCode !== null, 60_000);
  return { ...running, url: /http:\/\/\S+/.exec(running.out())?.[0] ?? running.err() };
}

const endless = (url: string, stream = true) =>
  fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ prompt: "Once", max_tokens: null, ignore_eos: true, stream }),
  });

/** The events of a stream up to its end, and whether one has come. */
function eventsFrom({ body }: Response): { readonly events: Promise<string[]>; readonly begun: () => boolean } {
  let text = "";
  const read = async () => {
    for await (const piece of body?.pipeThrough(new TextDecoderStream()) ?? []) text += piece;
    return eventsOf(text);
  };
  return { events: read(), begun: () => eventsOf(text).length > 0 };
}

const health = async (url: string): Promise<unknown> => (await fetch(`${url}/health`)).json();

describe("the command line", () => {
  test("says how it is used: exit 2", async () => {
    const nothing = lambdatap();
    expect(await nothing.exit).toEqual([2, null]);
    expect(nothing.err()).toContain("lambdatap serve");
    expect(await lambdatapInProcess(["sevre"])).toMatchObject({
      code: 2,
      err: expect.stringContaining("unknown command 'sevre'"),
    });
    expect(await lambdatapInProcess(["lab", "trian"])).toMatchObject({
      code: 2,
      err: expect.stringMatching(/^lambdatap: unknown command 'lab trian'\nUsage:\n {2}lambdatap lab train /),
    });
    expect(await lambdatapInProcess(["lab"])).toMatchObject({ code: 2, err: expect.not.stringContaining("unknown") });
    for (const wrong of [
      ["serve", "--prot", "1"],
      ["serve", "surplus"],
      ["cache"],
      ["cache", "rm"],
      ["generate", "a", "b"],
    ]) {
      const { code, err } = await lambdatapInProcess(wrong);
      expect([code, err]).toEqual([
        2,
        expect.stringMatching(/^lambdatap \w+: .*\nlambdatap \w+ --help lists its flags\n$/),
      ]);
    }
  });

  test("helps: exit 0", async () => {
    const help = lambdatap("serve", "--help");
    expect(await help.exit).toEqual([0, null]);
    expect(help.out()).toContain("--served-model-name <name>");
    expect(await lambdatapInProcess(["lab", "--help"])).toMatchObject({
      code: 0,
      out: expect.stringMatching(/lambdatap lab eval .*\n.*lambdatap lab <command> --help/s),
    });
    expect(await lambdatapInProcess(["--version"])).toMatchObject({ code: 0, err: "" });
  });

  test("lists and prunes a cache", async () => {
    const empty = join(cache, "nothing-here");
    const ls = await lambdatapInProcess(["cache", "ls", "--cache-dir", empty]);
    expect([ls.code, ls.out]).toEqual([0, expect.stringContaining("0 compiled models, 0.0 MB")]);
    expect((await lambdatapInProcess(["cache", "prune", "--all", "--cache-dir", empty])).code).toBe(0);
  });
});

describe("generate", () => {
  test("writes the text to stdout, and speed and memory to stderr", async () => {
    const run = lambdatap("generate", "Once upon a time", "--max-tokens", "5", "--ignore-eos", "--seed", "1");
    expect(await run.exit).toEqual([0, null]);
    expect(run.out()).toMatch(/^Once upon a time.+\n/s);
    expect(run.err()).toMatch(/5 tokens; first after \d+ ms, then [\d.]+ tokens\/s\nmemory \d+ MB/);
  });

  test("of wrong parameters is a sentence", async () => {
    const { code, err } = await lambdatapInProcess(["generate", "a", "--stop", ""]);
    expect([code, err]).toEqual([2, expect.stringContaining("--stop")]);
    expect(err).not.toMatch(/^\s+at /m);
  });
});

describe("serve", () => {
  test("prints its address, and ends by itself after SIGTERM when the last stream has", async () => {
    const server = await serving("--served-model-name", "my-alias", "--log-level", "info");
    expect(server.out()).toContain("my-alias");
    expect((await fetch(`${server.url}/v1/models/my-alias`)).status).toBe(200);
    const reader = (await endless(server.url)).body?.getReader();
    await reader?.read();
    server.child.kill("SIGTERM");
    await until(() => server.err().includes("draining"));
    expect((await reader?.read())?.done).toBe(false);
    await reader?.cancel();
    expect(await server.exit).toEqual([0, null]);
    expect(server.err()).toContain('"msg":"drained"');
  });

  test("ends at once on the second signal", async () => {
    const server = await serving();
    const reader = (await endless(server.url)).body?.getReader();
    await reader?.read();
    server.child.kill("SIGTERM");
    await until(() => server.err().includes("draining"));
    server.child.kill("SIGTERM");
    expect(await server.exit).toEqual([null, "SIGTERM"]);
    await reader?.cancel().catch(() => {});
  });

  test("ends what still runs after the drain timeout with an error, and says that it did", async () => {
    const server = await serving("--drain-timeout", "0.05");
    const { events: stream, begun } = eventsFrom(await endless(server.url));
    const whole = endless(server.url, false);
    const traces = await openTraces(server.url);
    traces.send({ type: "generate", id: "a", prompt: "Once", max_tokens: null, ignore_eos: true, features: null });
    const running = async () => z.looseObject({ running: z.number() }).parse(await health(server.url)).running;
    while ((await running()) < 3);
    await until(begun);
    server.child.kill("SIGINT");
    const shuttingDown = { code: "shutting_down", type: "server_error" };
    const events = await stream;
    expect(events.length).toBeGreaterThan(1);
    expect(JSON.parse(events.at(-1) ?? "")).toMatchObject({ error: shuttingDown });
    const refused = await whole;
    expect([refused.status, await refused.json()]).toMatchObject([503, { error: shuttingDown }]);
    expect(await traces.closed).toEqual([1001, "the server is shutting down"]);
    expect(traces.of("a").at(-1)).toMatchObject({ type: "error", index: 0, error: shuttingDown });
    expect(await server.exit).toEqual([1, null]);
  });

  test("says in a sentence that its port is in use", async () => {
    const first = await serving();
    const second = lambdatap("serve", "--port", new URL(first.url).port);
    expect(await second.exit).toEqual([1, null]);
    expect(second.err()).toMatch(/^lambdatap serve: port \d+ on 127.0.0.1 is in use; .*$/m);
    expect(second.err()).not.toMatch(/^\s+at /m);
    first.child.kill("SIGTERM");
    await first.exit;
  });
});
