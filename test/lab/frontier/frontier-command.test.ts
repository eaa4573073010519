import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { runFrontier } from "../../../lab/frontier/run-frontier.js";
import { packageRoot } from "../../../models/package-root.js";
import { lambdatapInProcess } from "../../server/lambdatap-in-process.js";
import { story } from "../activations/embedded-lab.js";

const home = mkdtempSync(join(tmpdir(), "lambdatap-frontier-"));
afterAll(() => rmSync(home, { recursive: true }));
const text = join(home, "river.txt");
const cacheDir = join(home, "cache");
const hook = "blocks.3.hook_resid_post";

const SMALL = {
  ...{ hook, text: [text], width: 32, steps: 6, batch: 64, vectors: 512, heldOut: 64, seeds: [1, 2] },
  afaTarget: "centred" as const,
  settings: { "top-afa": [1 / 16], topk: [2, 4], "batch-topk": [2, 4] },
  model: {
    ...{ path: join(packageRoot(), "models", "default"), name: "default", precision: "f32" as const, threads: 1 },
    ...{ device: { kind: "cpu" as const }, cacheDir },
  },
};

const run = (...args: string[]) =>
  lambdatapInProcess(["lab", "frontier", ...args], { LAMBDATAP_CACHE: cacheDir, LAMBDATAP_PRECISION: "f32" });
const flags = (out: string): string[] => [
  ...["--hook", hook, "--text", text, "--width", "32", "--steps", "6", "--batch", "64", "--vectors", "512"],
  ...["--held-out", "64", "--seeds", "2", "--k", "2,4", "--lambda", "1/16", "--out", join(home, out)],
];

const Data = z.object({
  runs: z.array(z.object({ method: z.string(), heldOut: z.object({ l0: z.number(), mse: z.number() }) })),
  welch: z.array(z.object({ p: z.number(), l0: z.record(z.string(), z.number()) })),
});

beforeAll(() => {
  writeFileSync(text, story(1000, "river"));
});

describe("lambdatap lab frontier", () => {
  test("trains every setting on one file of activations, and reports errors with their sparsities", async () => {
    const { code, out, err } = await run(...flags("whole"));
    expect([code, err.match(/held out mse [\d.e-]+ at l0 [\d.]+, \d+ s/g)?.length]).toEqual([0, 8]);
    expect(out).toContain("settings of top-AFA lose to a baseline of lower or equal l0");
    const files = readdirSync(join(home, "whole")).sort();
    expect(files).toEqual([
      "frontier-mse-l0.svg",
      "frontier.json",
      "frontier.md",
      "held-out.f32",
      "runs.jsonl",
      "train.f32",
    ]);
    const { runs, welch } = Data.parse(JSON.parse(readFileSync(join(home, "whole", "frontier.json"), "utf8")));
    expect(runs).toHaveLength(8);
    expect(welch).toHaveLength(4);
    for (const { method, heldOut } of runs) {
      expect(heldOut.mse).toBeGreaterThan(0);
      if (method === "topk") expect(heldOut.l0).toBeLessThanOrEqual(4);
    }
  });

  test("goes on where it was ended, and comes to the same", async () => {
    const out = join(home, "ended");
    const ending = new AbortController();
    let results = 0;
    const onResult = () => {
      results += 1;
    };
    const onStep = (share: number) => {
      if (results === 4 && share > 0.5) ending.abort();
    };
    const ended = await runFrontier({ ...SMALL, out }, { onResult, onStep, signal: ending.signal });
    expect([results, ended.report.tables[0]?.rows.length]).toEqual([4, 4]);
    await runFrontier({ ...SMALL, out }, { onResult });
    expect(results).toBe(8);
    const [first, second] = ["whole", "ended"].map((name) => readFileSync(join(home, name, "frontier.json"), "utf8"));
    expect(second).toBe(first);
    await runFrontier({ ...SMALL, out }, { onResult });
    expect(results).toBe(8);
  });

  test("comes to the same with a seed, whichever the file of activations was made with", async () => {
    const few = { ...SMALL, settings: { "top-afa": [], topk: [4], "batch-topk": [] } };
    const heldOut = async (seed: number, out: string) => {
      const { report } = await runFrontier({ ...few, seeds: [seed], out: join(home, out) });
      return z.object({ runs: Data.shape.runs }).parse(report.data).runs.at(-1);
    };
    await heldOut(1, "seeds");
    expect(await heldOut(6, "seeds")).toEqual(await heldOut(6, "seed"));
  });

  test("waits for nobody who was killed, and does not work where another process does", async () => {
    const held = join(home, "held");
    cpSync(join(home, "whole"), held, { recursive: true });
    const holder = join(held, "running.pid");
    writeFileSync(holder, String(process.ppid));
    const { code, err } = await run(...flags("held"));
    expect([code, err]).toEqual([1, expect.stringContaining(`held is in use by process ${process.ppid}`)]);
    writeFileSync(holder, String(2 ** 30)); // more than any process has
    expect((await run(...flags("held"))).code).toBe(0);
    expect(existsSync(holder)).toBe(false);
  });

  test("takes no activations of which nothing says what they are", async () => {
    const left = join(home, "left");
    cpSync(join(home, "whole"), left, { recursive: true });
    rmSync(join(left, "runs.jsonl"));
    const { code, err } = await run(...flags("left"), "--hook", "blocks.1.hook_resid_post");
    expect(err).toContain("train.f32 holds activations, and there is no runs.jsonl that says of what");
    expect(code).toBeGreaterThan(0);
    rmSync(join(left, "train.f32"));
    expect((await run(...flags("left"))).err).toContain("held-out.f32 holds activations");
  });

  describe("says what is wrong", () => {
    test.each([
      { about: "no steps", args: ["--steps", "0"], sentence: "--steps '0'" },
      { about: "no hook", args: ["--out", "o", "--text", "t"], sentence: "say --hook <name>" },
      { about: "no folder", args: ["--hook", hook, "--text", "t"], sentence: "say --out <folder>" },
      { about: "no text", args: ["--hook", hook, "--out", "o"], sentence: "say --text <path>" },
      { about: "a k that is none", args: ["--k", "8,0"], sentence: "--k '8,0': expected whole numbers from 1" },
      {
        about: "a lambda of 0",
        args: ["--lambda", "0"],
        sentence: "--lambda '0': expected numbers above 0 or fractions",
      },
      {
        about: "more than all features",
        args: [...flags("a"), "--k", "33"],
        sentence: "--k 33 is none of 1 to 32, the width",
      },
      {
        about: "fewer activations than a batch",
        args: [...flags("a"), "--vectors", "63"],
        sentence: "--vectors 63 are fewer than one batch of 64 rows",
      },
      {
        about: "no such hook",
        args: [...flags("a"), "--hook", "blocks.9.hook_resid_post"],
        sentence: "blocks.9.hook_resid_post",
      },
      {
        about: "a file in place of a folder",
        args: [...flags("a"), "--out", text],
        sentence: "river.txt cannot be used",
      },
      { about: "no such text", args: [...flags("a"), "--text", join(home, "none")], sentence: "none" },
      {
        about: "a folder with other settings",
        args: [...flags("ended"), "--steps", "7"],
        sentence: "holds a run with other settings",
      },
    ])("of $about", async ({ args, sentence }) => {
      const { code, err } = await run(...args);
      expect(err).toContain(sentence);
      expect(err).not.toContain("unexpected error");
      expect(code).toBeGreaterThan(0);
    });
  });
});
