import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { lambdatapInProcess } from "../../lambdatap-in-process.js";
import { until } from "../../with-server.js";

const main = fileURLToPath(new URL("../../../../server/cli/main.js", import.meta.url));
const cache = mkdtempSync(join(tmpdir(), "lambdatap-trace-"));
beforeAll(() => void vi.stubEnv("NO_COLOR", "1"));
afterAll(() => rmSync(cache, { recursive: true, force: true }));
const L3 = "blocks.3.hook_resid_post";
const lambdatap = (...args: string[]) => lambdatapInProcess(args, { LAMBDATAP_CACHE: cache });

describe("lambdatap trace", () => {
  test("shows the embedded model's features, the same in the table as in JSON", async () => {
    const args = ["trace", "Once upon a time", "--max-tokens", "8", "--temperature", "0", "--read", L3, "--ignore-eos"];
    const table = await lambdatap(...args);
    expect(table.err).not.toMatch(/error/i);
    expect(table.code).toBe(0);
    const rows = table.out.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    expect(rows).toHaveLength(8);

    const json = await lambdatap(...args, "--json");
    const [start, ...frames] = json.out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(start).toMatchObject({ type: "start", model: "default", saes: [L3] });
    expect(frames.pop()).toMatchObject({ type: "end", usage: { completion_tokens: 8 } });
    for (const [seq, { type, pos, saes }] of frames.entries()) {
      expect({ type, sae: saes[0].sae, top: saes[0].top.length }).toEqual({ type: "token", sae: L3, top: 5 });
      const strongest = saes[0].top.map(([feature]: [number]) => `${feature}:`);
      const [token = "", reading = ""] = (rows[seq] ?? "").split(" L3 ");
      expect(token).toMatch(new RegExp(`^ *${pos} `));
      expect(reading).toMatch(new RegExp(`^ *${saes[0].l0} `));
      expect([...reading.matchAll(/\d+:/g)].map(String)).toEqual(strongest);
    }
  });

  test("shows an edit where the edited feature is read further up", async () => {
    const run = (...edit: string[]) =>
      lambdatap(
        "trace",
        "Once upon a time",
        "--max-tokens",
        "2",
        "--temperature",
        "0",
        "--json",
        "--read",
        L3,
        ...edit,
      );
    const plain = await run();
    const edited = await run("--edit", "blocks.1.hook_resid_post:5:add:8");
    expect([plain.code, edited.code]).toEqual([0, 0]);
    expect(edited.out).not.toBe(plain.out);
  });

  test("of an SAE that is not there, or of no such feature, is a sentence", async () => {
    for (const [flag, text, reason] of [
      ["--read", "nowhere", /there is no SAE 'nowhere'/],
      ["--color-by", "99999", /has features 0 to 1023/],
      ["--edit", "nowhere:1:ablate", /there is no SAE 'nowhere'/],
      ["--color-by", "loudness", /^lambdatap trace: --color-by 'loudness': expected l0, z, f, eps_lbo, mse/],
    ] as const) {
      const refused = await lambdatap("trace", "a", flag, text);
      expect(refused.code).not.toBe(0);
      expect(refused.err).toMatch(reason);
      expect(refused.err).not.toMatch(/^\s+at /m);
      expect(refused.out).toBe("");
    }
  });

  test("ends at Ctrl-C with its legend, and no colour left on", async () => {
    const env = { ...process.env, LAMBDATAP_CACHE: cache, FORCE_COLOR: "1", COLORTERM: "truecolor", NO_COLOR: "" };
    const args = ["trace", "Once upon", "--max-tokens", "none", "--ignore-eos", "--view", "text", "--color-by", "l0"];
    const child = spawn(process.execPath, [main, ...args], { env, timeout: 120_000, killSignal: "SIGKILL" });
    let out = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
    });
    const closed = once(child, "close");
    await until(() => out.includes("\x1b[38;2;") || child.exitCode !== null, 60_000);
    child.kill("SIGINT");
    expect(await closed).toEqual([130, null]);
    expect(out).toContain("\x1b[0m\n# colour  l0 of blocks.1.hook_resid_post");
    expect(out).toMatch(/# \d+ tokens?, interrupted\p{Cc}\[0m\n$/u);
  });
});
