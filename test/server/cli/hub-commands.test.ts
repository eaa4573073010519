import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Ended } from "../../captured-output.js";
import { goldenFolder } from "../../golden-tensors.js";
import { type FakeHub, fakeHub, REPOSITORY, refuse } from "../../models/hub/fake-hub.js";
import { lambdatapInProcess } from "../lambdatap-in-process.js";

const main = fileURLToPath(new URL("../../../server/cli/main.js", import.meta.url));
const LLAMA = goldenFolder("architectures/llama");
const golden = Object.fromEntries(
  ["config.json", "model.safetensors"].map((name) => [name, readFileSync(join(LLAMA, name))] as const),
);
const home = mkdtempSync(join(tmpdir(), "lambdatap-hub-cli-"));
let hub: FakeHub;
beforeAll(async () => {
  hub = await fakeHub(golden);
});
afterAll(async () => {
  await hub.close();
  rmSync(home, { recursive: true });
});

const environment = (more: Record<string, string>) => ({
  LAMBDATAP_CACHE: join(home, "compiled"),
  HF_HOME: home,
  HF_ENDPOINT: hub.url,
  ...more,
});

/** In this process. */
const run = (args: readonly string[], more: Record<string, string> = {}): Promise<Ended> =>
  lambdatapInProcess(args, environment(more));

/** In a process that can write no larger files than `limit` says, in blocks. */
async function runAlone(
  args: readonly string[],
  more: Record<string, string> = {},
  limit = "unlimited",
): Promise<Ended> {
  const env = { ...process.env, ...environment(more) };
  // What a full disk does to a write, a limit on the size of files does too.
  const child = spawn("sh", ["-c", `ulimit -f ${limit}; exec "$@"`, "sh", process.execPath, main, ...args], { env });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  await once(child, "close");
  return { code: child.exitCode, out, err };
}

describe("pull", () => {
  test("by two processes at once fetches every file once, with a line per file", async () => {
    const both = await Promise.all([runAlone(["pull", REPOSITORY]), runAlone(["pull", REPOSITORY])]);
    for (const { code, out, err } of both) {
      expect(err).toMatch(/^config.json {2}[\d.]+ kB, (fetched|was there)$/m);
      expect(err).toMatch(/^model.safetensors {2}[\d.]+ kB, (fetched|was there)$/m);
      expect(out).toMatch(/^org\/tiny at 0123456789ab: 2 files, [\d.]+ kB \([\d.]+ kB fetched\) in .*snapshots/);
      expect(code).toBe(0);
    }
    for (const [name, bytes] of Object.entries(golden)) expect(hub.sent.get(name)).toBe(bytes.length);
    const blobs = readdirSync(join(home, "hub", "models--org--tiny", "blobs"));
    expect(blobs.filter((name) => !/^[0-9a-f]{40,64}$/.test(name))).toEqual([]);
  });

  test("of nothing, or of what is no name, is wrong usage", async () => {
    for (const args of [["pull"], ["pull", "tiny"], ["pull", "../tiny"], ["pull", "org/tiny/a.gguf", "--file", "b"]]) {
      const { code, err } = await run(args);
      expect([code, err]).toEqual([2, expect.stringMatching(/^lambdatap pull: .*\nlambdatap pull --help/)]);
    }
  });

  test.skipIf(process.platform === "win32")(
    "on a disk that is full keeps what has come, and goes on later",
    async () => {
      const large = await fakeHub({ ...golden, "model.safetensors": Buffer.alloc(2_000_000, 1) });
      const more = { HF_HOME: join(home, "full"), HF_ENDPOINT: large.url };
      const full = await runAlone(["pull", REPOSITORY], more, "1000"); // blocks of 512 bytes, or of 1024
      expect(full.code).toBe(1);
      expect(full.err).toMatch(
        /^lambdatap pull: the disk is full at model\.safetensors .*free some space and pull again.*$/m,
      );
      expect((await run(["pull", REPOSITORY], more)).code).toBe(0);
      await large.close();
      expect(large.asked.at(-1)?.range).toMatch(/^bytes=(512000|1024000)-$/);
    },
  );

  test("that is refused says how to go on, in a sentence: exit 1", async () => {
    hub.intercept = (_, response) => {
      refuse(response, 401);
      return true;
    };
    const { code, err } = await run(["pull", "org/private"], { HF_TOKEN: "" });
    hub.intercept = () => false;
    expect(code).toBe(1);
    expect(err).toMatch(/^lambdatap pull: .*set HF_TOKEN.*\n$/);
  });
});

describe("what was pulled", () => {
  test("is listed, looked into and compiled by its name, without a network", async () => {
    const unreachable = { HF_ENDPOINT: "http://127.0.0.1:9" };
    const before = await run(["models"], unreachable);
    expect(before.out).toMatch(/^default +- +[\d.]+ MB +safetensors +not compiled$/m);
    expect(before.out).toMatch(/^org\/tiny +main +[\d.]+ kB +safetensors +not compiled$/m);
    expect((await run(["compile", REPOSITORY], unreachable)).out).toContain("org/tiny is compiled (f32");
    const line: unknown = JSON.parse((await run(["models", "--json"], unreachable)).out.trim().split("\n")[1] ?? "");
    expect(line).toMatchObject({ name: REPOSITORY, revision: "main", format: "safetensors", compiled: ["f32"] });
    const doctor = await run(["doctor", REPOSITORY], unreachable);
    expect([doctor.code, doctor.out]).toEqual([0, expect.stringContaining("This model can be served.")]);
  });

  test("by another name is not there, and the sentence says how to pull it", async () => {
    const { code, err } = await run(["generate", "a", "--model", "org/absent"]);
    expect(code).toBe(1);
    expect(err).toMatch(
      /^lambdatap generate: there is no folder or file org\/absent here.*lambdatap pull org\/absent fetches it\n$/,
    );
  });
});

describe("doctor", () => {
  test("of the embedded model tells what it is and needs, and that everything is well", async () => {
    const { code, out } = await run(["doctor"]);
    expect(code).toBe(0);
    expect(out).toMatch(/^weights +3\.1 million parameters$/m);
    expect(out).toMatch(/^stored +6\.3 MB of F16$/m);
    expect(out).toMatch(/^ok +SAE: blocks\.3\.hook_resid_post: 1024 features of 192, top-afa, saelens$/m);
    expect(out).not.toContain("refused");
  });

  test("says that q8 is one of two forms, and what keys and values are kept in beside it", async () => {
    const { code, out } = await run(["doctor", "--precision", "q8", "--quick"]);
    expect(code).toBe(0);
    expect(out).toMatch(/^runs in +int8, or q8-block where that is found to be better$/m);
    expect(out).toMatch(/ of keys and values in q8 for each text/);
  });

  test("refuses keys and values that the activations do not go with", async () => {
    const { code, out } = await run(["doctor", "--kv", "f16", "--quick"]);
    expect(code).toBe(1);
    expect(out).toMatch(
      /^refused +keys and values: --kv f16 needs activations of that type, .*: take --kv f32 or auto$/m,
    );
  });

  test("in JSON of a model that is refused: exit 1", async () => {
    const { code, out } = await run(["doctor", goldenFolder("architectures/hostile/missing_tensor"), "--json"]);
    expect(code).toBe(1);
    expect(JSON.parse(out)).toMatchObject({ refused: true, architecture: "llama", checks: expect.any(Array) });
  });

  test("of an SAE that does not fit names the hook", async () => {
    const sae = join(goldenFolder("sae"), "saelens", readdirSync(goldenFolder("sae/saelens")).sort()[0] ?? "");
    const { code, out } = await run(["doctor", LLAMA, "--quick", "--sae", sae]);
    expect(code).toBe(1);
    expect(out).toMatch(/^refused +SAE: /m);
  });
});
