import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { temporaryFolder } from "../models/weights/write-safetensors.js";
import { scriptedEngine } from "../server/scripted-engine.js";
import { withServer } from "../server/with-server.js";

const SCRIPT = fileURLToPath(new URL("../../loadtest/feature-contexts.js", import.meta.url));

const contexts = (...args: string[]): Promise<{ code: number; out: string; err: string }> =>
  new Promise((resolve) => {
    execFile(process.execPath, [SCRIPT, ...args], { timeout: 60_000 }, (error, out, err) =>
      resolve({ code: error === null ? 0 : 1, out, err }),
    );
  });

function book(): string {
  const path = join(temporaryFolder(), "book.txt");
  const words = Array.from({ length: 1500 }, (_, i) => `word${(i * 7) % 300}${i % 40 === 0 ? "." : ""}`);
  writeFileSync(path, words.join(" "));
  return path;
}

test("contexts lists features of every SAE with the tokens that drive them, each feature led by another token", async () => {
  await withServer(scriptedEngine(), async ({ url }) => {
    const { code, out } = await contexts("--target", url, "--text", book(), "--features", "2", "--json");
    expect(code).toBe(0);
    const { tokens, saes } = JSON.parse(out);
    expect(tokens).toBeGreaterThan(1500);
    expect(saes.map(({ sae }: { sae: string }) => sae)).toEqual(["early", "late"]);
    for (const { features } of saes)
      for (const { strongest } of features) {
        const values = strongest.map(({ value }: { value: number }) => value);
        expect(values).toEqual([...values].sort((a: number, b: number) => b - a));
      }
    const table = await contexts("--target", url, "--text", book());
    expect(table.out).toMatch(/^\| SAE \| feature \| active on \| driven highest by \|\n\|---/);
  });
});

test("contexts says what is wrong in a line: no server, no such file, no text named", async () => {
  const text = book();
  const lines = [
    await contexts("--target", "http://127.0.0.1:9", "--text", text),
    await contexts("--text", "/nowhere/book.txt"),
    await contexts(),
  ];
  for (const { code, err } of lines) {
    expect(code).toBe(1);
    expect(err).toMatch(/^contexts: .+\n$/);
  }
});
