import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { lambdatap, whileServing } from "../lambdatap-process.js";

const root = mkdtempSync(join(tmpdir(), "lambdatap-telemetry-"));
const [home, temporary, working] = [join(root, "home"), join(root, "tmp"), join(root, "work")];
const cache = join(home, ".cache", "lambdatap");
const before = process.cwd();

beforeAll(() => {
  for (const folder of [home, temporary, working]) mkdirSync(folder);
  process.chdir(working);
  vi.stubEnv("HOME", home);
  vi.stubEnv("TMPDIR", temporary);
  vi.stubEnv("XDG_CACHE_HOME", undefined);
  vi.stubEnv("ORT_DISABLE_TELEMETRY", "0");
});

afterAll(() => {
  vi.unstubAllEnvs();
  process.chdir(before);
  rmSync(root, { recursive: true, force: true });
});

/** What lies in the three folders, without what lambdatap itself keeps in its cache. */
const leftBehind = () =>
  readdirSync(root, { recursive: true, encoding: "utf8" })
    .map((name) => join(root, name))
    .filter((path) => path !== cache && !path.startsWith(join(cache, "/")))
    .map((path) => path.slice(root.length + 1))
    .sort();

test("ONNX Runtime leaves nothing in the home, temporary or working folder, whatever the environment says", async () => {
  for (const args of [
    ["compile"],
    ["doctor"],
    ["generate", "Once upon a time", "--max-tokens", "2"],
    ["trace", "Once upon a time", "--max-tokens", "2"],
  ]) {
    expect(await lambdatap(args, cache)).toMatchObject({ code: 0 });
  }
  const served = await whileServing([], cache, async (url) => {
    const body = JSON.stringify({ prompt: "Once upon a time", max_tokens: 2, features: {} });
    const answer = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
    expect(answer.status).toBe(200);
  });
  expect(served).toBe(0);
  // A process that loads sessions on its main thread, as the benchmarks do.
  const sessions = fileURLToPath(new URL("../../runtime/ort/shared-threads-child.js", import.meta.url));
  await promisify(execFile)(process.execPath, [sessions]);
  expect(leftBehind()).toEqual(["home", "home/.cache", "tmp", "work"]);
});
