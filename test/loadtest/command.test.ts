import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, expect, test } from "vitest";

const url = (file: string) => JSON.stringify(new URL(`../../loadtest/${file}`, import.meta.url).href);

/** Runs a command whose work is this code in a process; the signals are sent one by one whenever it says "ready". */
async function run(work: string, signals: readonly NodeJS.Signals[] = []) {
  const program = `
    import { runCommand } from ${url("command.js")};
    import { TargetFailure } from ${url("target/failure.js")};
    const ready = () => console.log("ready");
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    await runCommand("words", async (_, signal) => { ${work} });`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], { timeout: 30_000 });
  let [out, err] = ["", ""];
  const left = [...signals];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
    if (text.includes("ready") && left[0] !== undefined) child.kill(left.shift());
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  await once(child, "close");
  return { code: child.exitCode, out, err };
}

describe("a command", () => {
  test("ends with the code that its work returns", async () => {
    expect(await run("return 0;")).toEqual({ code: 0, out: "", err: "" });
    expect(await run("return 3;")).toMatchObject({ code: 3 });
  });

  test("says an error in a line: its cause where it adds something, the kind of a server's failure", async () => {
    const cause = 'throw new Error("the file is broken", { cause: new Error("no JSON") });';
    expect(await run(cause)).toMatchObject({ code: 1, err: "words: the file is broken (no JSON)\n" });
    const known = 'throw new Error("broken: no JSON", { cause: new Error("no JSON") });';
    expect(await run(known)).toMatchObject({ code: 1, err: "words: broken: no JSON\n" });
    const failure = 'throw new TargetFailure("timed out", "it said nothing");';
    expect(await run(failure)).toMatchObject({ code: 1, err: "words: it said nothing (timed out)\n" });
  });

  test.each(["SIGINT", "SIGTERM"] as const)("writes down what it has after %s, and ends with 130", async (name) => {
    const work = `
      ready();
      while (!signal.aborted) await wait(10);
      console.log("written");
      return 0;`;
    expect(await run(work, [name])).toMatchObject({ code: 130, out: "ready\nwritten\n" });
  });

  test("ends with 130 where its work throws the interruption", async () => {
    const work = "ready(); while (true) { await wait(10); signal.throwIfAborted(); }";
    expect(await run(work, ["SIGINT"])).toMatchObject({ code: 130, err: "words: interrupted\n" });
  });

  test("ends at the second interruption, whatever it is doing", async () => {
    const work = "ready(); while (!signal.aborted) await wait(10); ready(); await wait(60_000); return 0;";
    expect(await run(work, ["SIGINT", "SIGINT"])).toMatchObject({ code: 130 });
  });
});
