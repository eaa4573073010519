import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Context, type ContextChoice, Contexts } from "../../../lab/activations/contexts.js";
import { LabModel } from "../../../lab/model/lab-model.js";
import { goldenFolder } from "../../golden-tensors.js";
import { embeddedLab, story } from "./embedded-lab.js";

const folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
let model: LabModel;
beforeAll(async () => {
  model = await embeddedLab([], folder);
});
afterAll(() => {
  model[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

function text(name: string, ...documents: string[]): string {
  const path = join(folder, `${name}.txt`);
  writeFileSync(path, documents.join("\n<|endoftext|>\n"));
  return path;
}

async function all(contexts: Contexts): Promise<Context[]> {
  const found: Context[] = [];
  for (let next = await contexts.next(); next !== null; next = await contexts.next()) found.push(next);
  return found;
}

const of = (choice: Partial<ContextChoice>): Promise<Context[]> =>
  all(Contexts.open(model, { text: [], part: "all", context: 64, ...choice }));
const read = ({ ids }: Context): string => model.encoder!.tokens.decode(ids, "skip");

describe("contexts", () => {
  it("are BOS and a paragraph's beginning, all of one length, and never share a token", async () => {
    const path = text("one", story(60, "fox"));
    const found = await of({ text: [path] });
    expect(found.length).toBeGreaterThan(15);
    for (const [i, context] of found.entries()) {
      expect(context.ids.length).toBe(64);
      expect(context.ids[0]).toBe(0);
      expect(read(context)).toMatch(/^In the year \d+ the fox/);
      if (i > 0) expect(context.at).toBeGreaterThanOrEqual(found[i - 1]!.at + 63);
    }
  });

  it("go on where the last one ended if no paragraph begins near by", async () => {
    const path = text("unbroken", "word and another word, ".repeat(200));
    const found = await of({ text: [path], context: 33 });
    expect(found.map(({ at }) => at)).toEqual(found.map((_, i) => 32 * i));
    const ids = await model.encoder!.encode("word and another word, ".repeat(200).trim(), "text");
    expect(found.flatMap(({ ids: own }) => [...own.subarray(1)])).toEqual([...ids.subarray(0, 32 * found.length)]);
    expect(ids.length - 32 * found.length).toBeLessThan(32);
  });

  it("of several documents come in turns, in an order that the seed decides", async () => {
    const path = text("three", story(30, "fox"), story(30, "owl"), story(30, "cat"));
    const animals = (contexts: Context[]) => contexts.map((context) => /fox|owl|cat/.exec(read(context))?.[0]);
    const found = animals(await of({ text: [path], seed: 1 }));
    expect(new Set(found.slice(0, 3)).size).toBe(3);
    expect(found.slice(3, 6)).toEqual(found.slice(0, 3));
    expect(animals(await of({ text: [path], seed: 1 }))).toEqual(found);
    const orders = await Promise.all(
      [2, 3, 4, 5].map(async (seed) =>
        animals(await of({ text: [path], seed }))
          .slice(0, 3)
          .join(),
      ),
    );
    expect(new Set(orders).size).toBeGreaterThan(1);
  });

  it("are held out of training one in twenty, also where each document has one", async () => {
    const long = text("long", story(300, "fox"));
    const short = text("short", ...Array.from({ length: 60 }, (_, i) => story(5, `number ${i}`)));
    for (const [path, at] of [[long, "at"] as const, [short, "document"] as const]) {
      const [whole, train, heldOut] = await Promise.all(
        (["all", "train", "held-out"] as const).map((part) => of({ text: [path], part })),
      );
      const keys = (contexts: Context[]) => contexts.map((context) => `${context[at]}`).sort();
      expect([...keys(train!), ...keys(heldOut!)].sort()).toEqual(keys(whole!));
      expect(Math.abs(whole!.length / 20 - heldOut!.length)).toBeLessThan(2);
      expect(heldOut!.length).toBeGreaterThan(0);
    }
  });

  it("go on after any of them as if nothing had happened", async () => {
    const choice: ContextChoice = {
      text: [text("many", ...Array.from({ length: 80 }, (_, i) => story(4 + (i % 30), `beast ${i}`)))],
      ...{ part: "train", context: 40, seed: 3 },
    };
    const whole = await of(choice);
    for (const stop of [0, 63, whole.length - 1]) {
      const first = Contexts.open(model, choice);
      for (let i = 0; i < stop; i++) await first.next();
      const state = JSON.parse(JSON.stringify(first.state()));
      expect(await all(Contexts.open(model, choice, state))).toEqual(whole.slice(stop));
    }
    const state = Contexts.open(model, choice).state();
    expect(() => Contexts.open(model, { ...choice, seed: 4 }, state)).toThrow(/had another seed/);
    expect(() => Contexts.open(model, { ...choice, text: [text("others", story(9, "x"))] }, state)).toThrow(
      /had another text/,
    );
  });

  it("are left out where a document is shorter, which is said", async () => {
    const notices: string[] = [];
    const path = text("mixed", story(1, "fox"), story(1, "owl"), story(20, "cat"));
    expect((await of({ text: [path], onNotice: (line) => notices.push(line) })).length).toBeGreaterThan(3);
    expect(notices).toEqual([
      "2 of the first 3 documents are shorter than a context of 64 tokens and left out; --context takes fewer",
    ]);
  });
});

describe("a choice that makes no sense is a sentence", () => {
  it.each([
    ["a context longer than the model's", { context: 257 }, /--context 257 is longer than .* reads at once: 256/],
    ["a context without a text", { context: 2 }, /--context 2 is too short/],
    ["documents that are all too short", { context: 256 }, /no document of the text is as long as a context of 256/],
    ["a text too short to hold out of", { part: "held-out" }, /none of its contexts is held out/],
  ] as const)("%s", async (_, choice, message) => {
    const path = text("small", story(8, "fox"));
    await expect(async () => of({ text: [path], ...choice })).rejects.toThrow(message);
  });

  it("a model without a tokenizer", async () => {
    const how = { precision: "f32", device: { kind: "cpu" }, threads: 1, cacheDir: folder } as const;
    using bare = await LabModel.open({ path: goldenFolder("lm-infinite"), name: "tiny", ...how }, []);
    expect(() => Contexts.open(bare, { text: [folder], part: "all" })).toThrow(/tiny has no tokenizer/);
  });

  it("a hook without a tap", async () => {
    for (const hook of ["blocks.3.attn.hook_pattern", "blocks.6.hook_resid_post", "blocks.0.mlp.hook_post"])
      await expect(embeddedLab([hook], folder)).rejects.toThrow(
        new RegExp(`has no hook ${hook} that can be read; blocks.0 to blocks.5 have .*attn.hook_z, .*hook_resid_mid`),
      );
    const how = { precision: "f32", device: { kind: "cpu" }, threads: 1, cacheDir: folder } as const;
    const path = goldenFolder("architectures/gptj");
    await expect(LabModel.open({ path, name: "tiny", ...how }, ["blocks.0.hook_resid_mid"])).rejects.toThrow(
      /has no hook blocks.0.hook_resid_mid/,
    );
  });
});
