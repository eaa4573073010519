import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { openSae } from "../../../models/sae/formats/index.js";
import { Count } from "../../../server/cli/lab/train-flags.js";
import { lambdatapInProcess } from "../../server/lambdatap-in-process.js";
import { whileServing } from "../../server/lambdatap-process.js";
import { story } from "../activations/embedded-lab.js";
import { smallTraining } from "./small-training.js";

const Reading = z.object({ sae: z.string(), l0: z.int(), top: z.array(z.tuple([z.int(), z.number()])) });
const Completion = z.object({
  choices: z.array(z.object({ features: z.array(z.object({ saes: z.array(Reading) })) })),
});

const { flags, out, env, home } = smallTraining();
const run = (name: string, ...more: string[]) => lambdatapInProcess(flags(name, ...more), env);

describe("lambdatap lab train", () => {
  test.each([
    ["top-afa", [], { activation: { kind: "top-afa" } }],
    ["topk", ["--k", "6"], { activation: { kind: "top-k", k: 6 } }],
    ["batch-topk", ["--k", "6"], { activation: { kind: "jumprelu" } }],
    ["jumprelu", ["--dtype", "f16"], { activation: { kind: "jumprelu" } }],
    [
      "matryoshka",
      ["--activation", "batch-topk", "--k", "6", "--widths", "8,24"],
      { activation: { kind: "jumprelu" } },
    ],
  ] as const)("makes an SAE of %s from texts", async (activation, more, expected) => {
    const { code, err } = await run(
      activation,
      ...(activation === "matryoshka" ? [] : ["--activation", activation]),
      ...more,
    );
    expect({ code, err }).toMatchObject({ code: 0 });
    expect(err).toContain("62 steps of 128 rows; at most");
    const folder = out(activation);
    expect(readdirSync(folder).sort()).toEqual([
      ...["cfg.json", "curve.jsonl", "curves.svg", "features.jsonl", "sae_weights.safetensors", "training.json"],
    ]);
    expect(await openSae(folder)).toMatchObject({ dIn: 192, dSae: 64, normalisation: "layer_norm", ...expected });
    const curve = readFileSync(join(folder, "curve.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(curve.map(({ step }) => step)).toEqual([10, 20, 30, 40, 50, 60]);
    expect(curve.at(-1).mse).toBeLessThan(curve[0].mse);
  });

  test.each(["topk", "batch-topk"])(
    "a text of which nothing is held out is trained on, too: %s",
    async (activation) => {
      const text = join(home, "little.txt");
      writeFileSync(text, story(40, "fox"));
      const name = `little-${activation}`;
      const { code, err } = await lambdatapInProcess(
        [
          ...[
            "lab",
            "train",
            "--hook",
            "blocks.1.hook_resid_post",
            "--text",
            text,
            "--out",
            out(name),
            "--tokens",
            "512",
          ],
          ...[
            "--buffer",
            "128",
            "--batch",
            "32",
            "--width",
            "16",
            "--context",
            "64",
            "--activation",
            activation,
            "--k",
            "4",
          ],
        ],
        env,
      );
      expect({ code, err }).toEqual({ code: 0, err: expect.stringContaining("features.jsonl is left out") });
      expect((await openSae(out(name))).dSae).toBe(16);
      expect(existsSync(join(out(name), "training"))).toBe(false);
    },
  );

  test("what was trained is served: its features stand beside each token of a completion", async () => {
    const code = await whileServing(["--sae", `mine=${out("top-afa")}`], env.LAMBDATAP_CACHE, async (url) => {
      const answer = await fetch(`${url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ prompt: "The old woman went", max_tokens: 4, features: { top: 2 } }),
      });
      const tokens = Completion.parse(await answer.json()).choices[0]?.features.map(({ saes }) => saes[0]!) ?? [];
      expect(tokens.map(({ sae }) => sae)).toEqual(["mine", "mine", "mine", "mine"]);
      expect(tokens.every(({ l0, top }) => l0 > 0 && top.length > 0)).toBe(true);
    });
    expect(code).toBe(0);
  });

  test("batch top-k keeps k features of held-out tokens in the mean, and says by how many that was settled", async () => {
    const { settled } = JSON.parse(readFileSync(join(out("batch-topk"), "training.json"), "utf8"));
    expect(settled.rows).toBeGreaterThan(0);
    const { activation } = await openSae(out("batch-topk"));
    expect(activation).toMatchObject({ kind: "jumprelu" });
    const thresholds = activation.kind === "jumprelu" ? [...new Set(activation.threshold)] : [];
    expect(thresholds).toEqual([settled.threshold]);
  });

  test("the same seed gives the same bytes; another seed gives others", async () => {
    await run("again", "--activation", "topk", "--k", "6");
    const { out: lines } = await run("seed", "--activation", "topk", "--k", "6", "--seed", "2", "--json");
    const weights = (name: string) => readFileSync(join(out(name), "sae_weights.safetensors"));
    expect(weights("again").equals(weights("topk"))).toBe(true);
    expect(weights("seed").equals(weights("topk"))).toBe(false);
    const steps = lines
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(steps[0]).toMatchObject({ step: 10, l0: 6, dead: expect.any(Number), mse: expect.any(Number) });
    expect(steps.at(-1)).toEqual({ finished: true, steps: 62, out: out("seed") });
  });

  test("trains on one head, and on chosen tokens of prompts", async () => {
    const prompts = join(home, "prompts.jsonl");
    const lines = Array.from({ length: 400 }, (_, i) => ({
      text: `Once ${i} kings had ${i * 3} sons`,
      positions: [-1, 2],
    }));
    writeFileSync(prompts, lines.map((line) => JSON.stringify(line)).join("\n"));
    const head = await lambdatapInProcess(
      [
        ...[
          "lab",
          "train",
          "--hook",
          "blocks.2.attn.hook_z",
          "--head",
          "3",
          "--out",
          out("head"),
          "--prompts",
          prompts,
        ],
        ...[
          "--tokens",
          "1k",
          "--passes",
          "2",
          "--buffer",
          "512",
          "--batch",
          "64",
          "--width",
          "48",
          "--activation",
          "topk",
          "--k",
          "4",
        ],
      ],
      env,
    );
    expect(head).toMatchObject({ code: 0 });
    const cfg = JSON.parse(readFileSync(join(out("head"), "cfg.json"), "utf8"));
    expect(cfg).toMatchObject({ d_in: 32, metadata: { hook_name: "blocks.2.attn.hook_z", hook_head_index: 3 } });
    // Without a version SAELens would take the file for an older one, and not read the metadata.
    expect(cfg.metadata.sae_lens_version).toBe("6.0.0");
  });
});

describe("what makes no sense is refused in a sentence, and nothing is left behind", () => {
  test.each([
    ["a hook that is not there", ["--hook", "blocks.9.hook_resid_post"], "no hook blocks.9.hook_resid_post"],
    ["a hook without a tap", ["--hook", "blocks.1.mlp.hook_post"], "no hook blocks.1.mlp.hook_post"],
    ["a head of a hook without heads", ["--head", "0"], "--head 0"],
    ["a k beyond the width", ["--activation", "topk", "--k", "65"], "--k 65 is none of 1 to 64"],
    ["levels that do not rise", ["--activation", "batch-topk", "--widths", "8,8"], "--widths 8,8"],
    ["a level beyond the width", ["--activation", "batch-topk", "--widths", "8,65"], "--widths 8,65"],
    ["a dictionary of one feature", ["--width", "1"], "--width 1"],
    ["a width beyond all bounds", ["--width", "1000000000"], "--width 1000000000"],
    ["fewer tokens than a batch", ["--tokens", "100"], "--tokens 100"],
    ["a buffer of less than two batches", ["--buffer", "200"], "200"],
    ["a context beyond what the model reads", ["--context", "257"], "--context 257"],
    ["nothing left of a context", ["--skip-start", "64"], "--skip-start 64"],
    ["a text that is not there", ["--text", "/nowhere/book.txt"], "/nowhere/book.txt"],
    ["a flag of another activation", ["--lambda", "1/32", "--activation", "topk"], "--lambda means nothing to topk"],
    [
      "a loss that jumprelu has not",
      ["--dead-penalty", "1", "--activation", "jumprelu"],
      "--dead-penalty means nothing",
    ],
    ["a learning rate of 0", ["--lr", "0"], "--lr 0"],
    ["thresholds without a gradient", ["--activation", "jumprelu", "--bandwidth", "0"], "--bandwidth 0"],
    ["a learning rate that is no number", ["--lr", "fast"], "--lr 'fast'"],
    ["to resume what never began", ["--resume"], "no unfinished run"],
  ])("%s", async (_, more, words) => {
    const { code, err } = await run("refused", ...more);
    expect(err).toContain(words);
    expect(code).not.toBe(0);
    expect(existsSync(join(out("refused"), "training"))).toBe(false);
    expect(existsSync(join(out("refused"), "cfg.json"))).toBe(false);
  });

  test("a folder that is not empty", async () => {
    mkdirSync(out("full"));
    writeFileSync(join(out("full"), "thesis.txt"), "mine");
    const { code, err } = await run("full");
    expect({ code, err }).toEqual({ code: 1, err: expect.stringContaining("is not empty") });
    expect(readdirSync(out("full"))).toEqual(["thesis.txt"]);
  });

  test("an SAE whose run was killed behind its last step is not said to be unfinished", async () => {
    const whole = out("whole");
    mkdirSync(join(whole, "training"), { recursive: true });
    writeFileSync(join(whole, "cfg.json"), "{}");
    for (const more of [[], ["--resume"]])
      expect(await run("whole", ...more)).toMatchObject({ code: 1, err: expect.stringContaining("is whole") });
    expect(readdirSync(whole).sort()).toEqual(["cfg.json", "training"]);
  });

  test("a text without a batch of rows", async () => {
    const short = join(home, "short.txt");
    writeFileSync(short, "It was short. ".repeat(30));
    const { code, err } = await lambdatapInProcess(
      ["lab", "train", "--hook", "blocks.1.hook_resid_post", "--text", short, "--out", out("short"), "--context", "32"],
      env,
    );
    expect(code).toBe(1);
    expect(err).toMatch(/too short/);
  });

  test("losses that are not finite: the step is named", async () => {
    const { code, err } = await run("nan", "--lr", "1000000000000000000000000000000000000000", "--warm-up", "0");
    expect(code).toBe(1);
    expect(err).toMatch(/not finite/);
    // The same --out can be used again.
    expect(readdirSync(out("nan"))).toEqual([]);
  });

  test("counts are exact, and flags of texts mean nothing to prompts", async () => {
    expect(Count.parse("4.1M")).toBe(4_100_000);
    expect(() => Count.parse("0.5")).toThrow();
    const args = ["lab", "train", "--hook", "blocks.1.hook_resid_post", "--out", out("x"), "--prompts", "p.jsonl"];
    const { code, err } = await lambdatapInProcess([...args, "--context", "64"], env);
    expect({ code, err }).toEqual({ code: 2, err: expect.stringContaining("--context means nothing to --prompts") });
  });

  test("neither or both of --text and --prompts, no --hook, no --out", async () => {
    for (const args of [
      ["--hook", "blocks.1.hook_resid_post", "--out", out("x")],
      ["--hook", "blocks.1.hook_resid_post", "--out", out("x"), "--text", home, "--prompts", "p.jsonl"],
      ["--out", out("x"), "--text", home],
      ["--hook", "blocks.1.hook_resid_post", "--text", home],
    ])
      expect(await lambdatapInProcess(["lab", "train", ...args], env)).toMatchObject({ code: 2 });
  });
});
