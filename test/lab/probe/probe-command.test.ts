import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { goldenFolder } from "../../golden-tensors.js";
import { lambdatapInProcess } from "../../server/lambdatap-in-process.js";

const home = mkdtempSync(join(tmpdir(), "lambdatap-probe-"));
afterAll(() => rmSync(home, { recursive: true }));

const golden = goldenFolder("sae-eval");
const sae = (name: string): string => join(golden, "saes", name);
const lines = readFileSync(join(golden, "probe-book.jsonl"), "utf8").trim().split("\n");
const Labelled = z.object({ text: z.string(), label: z.int(), ids: z.array(z.int()) });

const run = (...args: string[]) =>
  lambdatapInProcess(["lab", "probe", ...args], { LAMBDATAP_CACHE: join(home, "cache") });

function write(name: string, content: readonly string[]): string {
  const path = join(home, name);
  writeFileSync(path, `${content.join("\n")}\n`);
  return path;
}

const train = write("train.jsonl", lines.slice(0, 120));
const held = write("test.jsonl", lines.slice(120));

describe("lambdatap lab probe", () => {
  test("shows what 1, 2 and 5 features of several SAEs tell, side by side", async () => {
    const { code, out } = await run(
      "--train",
      train,
      "--test",
      held,
      "--sae",
      sae("afa3"),
      "--sae",
      `r=${sae("relu")}`,
    );
    expect(code).toBe(0);
    expect(out).toBe(
      [
        "Sparse probing of default: 120 texts to train with, 40 to test; accuracy in %",
        "  SAE   label  k  train  test  commonest           features",
        "  afa3      1  1   74.2  70.0       55.0                  7",
        "  afa3      1  2   75.8  72.5       55.0              7 718",
        "  afa3      1  5   85.0  85.0       55.0  7 718 202 520 923",
        "  r         1  1   75.8  80.0       55.0                218",
        "  r         1  2   74.2  85.0       55.0            218 180",
        "  r         1  5   81.7  82.5       55.0  218 180 83 18 167",
        "",
      ].join("\n"),
    );
  });

  test("finds the same where the model's tokenizer makes the ids", async () => {
    const few = lines.slice(0, 40);
    const asText = few.map((line) => {
      const { text, label } = Labelled.parse(JSON.parse(line));
      return JSON.stringify({ text, label });
    });
    const [withIds, fromText] = [write("ids.jsonl", few), write("text.jsonl", asText)];
    const [first, second] = [
      await run("--data", withIds, "--sae", sae("topk"), "--json"),
      await run("--data", fromText, "--sae", sae("topk"), "--json"),
    ];
    expect(second.out).toBe(first.out);
    expect(JSON.parse(first.out)).toMatchObject({
      model: "default",
      texts: { train: 32, test: 8 },
      saes: [
        {
          id: "topk",
          hook: "blocks.3.hook_resid_post",
          labels: [{ label: "1", probes: [{ k: 1 }, { k: 2 }, { k: 5 }] }],
        },
      ],
    });
  });

  test("tells each of three labels from the others, and says the mean", async () => {
    const three = lines
      .slice(0, 40)
      .map((line, i) => JSON.stringify({ ...JSON.parse(line), label: ["one", "two", "three"][i % 3] }));
    const { out } = await run("--data", write("three.jsonl", three), "--sae", sae("topk"), "--k", "1");
    const labels = out
      .split("\n")
      .slice(2)
      .map((line) => line.trim().split(/\s+/)[1]);
    expect(labels).toEqual(["one", "three", "two", "mean", undefined]);
  });

  test("says that a long text is cut", async () => {
    const { text, label } = Labelled.parse(JSON.parse(lines[0] ?? ""));
    const long = write("long.jsonl", [...lines.slice(1, 40), JSON.stringify({ text: text.repeat(20), label })]);
    const { code, err } = await run("--data", long, "--sae", sae("topk"), "--k", "1");
    expect(code).toBe(0);
    expect(err).toContain("1 of 40 texts are longer than 256 tokens, and cut there");
  });

  describe("says what is wrong", () => {
    const [some, other] = [lines.slice(0, 20), lines.slice(20)];
    test.each([
      {
        about: "a line that is not JSON",
        args: () => ["--data", write("a.jsonl", [...some, "{text: 1}", ...other])],
        sentence: "a.jsonl, line 21 is not JSON",
      },
      {
        about: "a share of files that are divided already",
        args: () => ["--train", train, "--test", train, "--test-share", "0.5"],
        sentence: "--test-share and --seed go with --data",
      },
      {
        about: "a line without a label",
        args: () => ["--data", write("b.jsonl", ['{"text": "no label"}'])],
        sentence: "b.jsonl, line 1: label: expected a text, a number, true or false",
      },
      {
        about: "an empty text",
        args: () => ["--data", write("c.jsonl", [...some, '{"text": " ", "label": 1}'])],
        sentence: "c.jsonl, line 21: the text is empty",
      },
      {
        about: "ids of BOS alone",
        args: () => ["--data", write("d.jsonl", [...some, '{"text": "", "label": 1, "ids": [0]}'])],
        sentence: "d.jsonl, line 21: the text has no tokens but those before it",
      },
      {
        about: "a token that the model does not know",
        args: () => ["--data", write("e.jsonl", [...some, '{"label": 1, "ids": [0, 4096]}'])],
        sentence: "e.jsonl, line 21: default has no token 4096",
      },
      {
        about: "labels of one kind only",
        args: () => [
          "--data",
          write(
            "f.jsonl",
            some.map((line) => line.replace(/"label":\d/, '"label":1')),
          ),
        ],
        sentence: "all texts to train with have the label 1; a probe needs two",
      },
      {
        about: "a label that only the tests have",
        args: () => ["--train", train, "--test", write("g.jsonl", ['{"text": "new", "label": 2}'])],
        sentence: "g.jsonl, line 1: no text to train with has the label 2",
      },
      {
        about: "labels that are numbers rather than classes",
        args: () => [
          "--data",
          write(
            "h.jsonl",
            Array.from({ length: 200 }, (_, i) => `{"text": "a", "label": ${i / 7}}`),
          ),
        ],
        sentence: "different labels; probes tell at most 100 apart",
      },
      {
        about: "fewer features than a probe is to read",
        args: () => ["--train", train, "--test", held, "--k", "1,300"],
        sentence: "topk has 256 features, and a probe was asked to read 300",
      },
      {
        about: "no such file",
        args: () => ["--data", join(home, "none.jsonl")],
        sentence: "none.jsonl cannot be read: there is no such file",
      },
      { about: "an empty file", args: () => ["--data", write("i.jsonl", [""])], sentence: "i.jsonl holds no text" },
      {
        about: "a share that leaves no text",
        args: () => ["--data", write("j.jsonl", lines.slice(0, 2)), "--test-share", "0.1"],
        sentence: "a share of 0.1 of 2 texts leaves none to test with",
      },
      { about: "no texts", args: () => [], sentence: "say --train <file> and --test <file>, or --data <file>" },
      {
        about: "a folder without an SAE",
        args: () => ["--train", train, "--test", held, "--sae", home],
        sentence: "there is no SAE in this folder",
      },
      {
        about: "two SAEs of one name",
        args: () => ["--train", train, "--test", held, "--sae", `a=${sae("relu")}`, "--sae", `a=${sae("afa3")}`],
        sentence: "are both called a: say --sae <name>=<folder>",
      },
    ])("of $about", async ({ args, sentence }) => {
      const { code, out, err } = await run("--sae", sae("topk"), ...args());
      expect(err).toContain(sentence);
      expect(err).not.toContain("unexpected error");
      expect([code, out]).toEqual([code === 2 ? 2 : 1, ""]);
    });
  });
});
