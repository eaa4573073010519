import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { connectTraces } from "../../../loadtest/client/index.js";
import { readOptions, UsageError } from "../../../server/cli/flags.js";
import { ServeOptions } from "../../../server/cli/options.js";
import { planModels } from "../../../server/cli/served-models.js";
import { goldenFolder } from "../../golden-tensors.js";
import { lambdatap, whileServing } from "../lambdatap-process.js";

const LLAMA = goldenFolder("architectures/llama");
const SOUND = goldenFolder("architectures/hostile/ok");
const BROKEN = goldenFolder("architectures/hostile/missing_tensor");
const EMBEDDED = join("models", "default");
const cache = mkdtempSync(join(tmpdir(), "lambdatap-several-"));
afterAll(() => rmSync(cache, { recursive: true }));

const plan = (...args: string[]) => planModels(readOptions(ServeOptions, args, {}).options, { HF_HOME: cache });
const Saes = z.object({ data: z.array(z.object({ id: z.string(), model: z.string() })) });

describe("several models in one server", () => {
  test("answer each under its name, and drain together", async () => {
    const args = [
      "--model",
      LLAMA,
      "--model",
      `tales=${EMBEDDED}`,
      "--sae",
      `tales:mid=${EMBEDDED}/saes/blocks.3.hook_resid_post`,
    ];
    const code = await whileServing(args, cache, async (url) => {
      const client = new OpenAI({ apiKey: "none", baseURL: `${url}/v1`, maxRetries: 0 });
      expect((await client.models.list()).data.map(({ id }) => id)).toEqual(["llama", "tales"]);

      const ids = { model: "llama", prompt: [1, 5, 9], max_tokens: 3, temperature: 0 };
      const text = { model: "tales", prompt: "Once upon a time", max_tokens: 5, temperature: 0 };
      const [numbers, words] = await Promise.all([client.completions.create(ids), client.completions.create(text)]);
      expect([numbers.model, words.model]).toEqual(["llama", "tales"]);
      expect(numbers.choices[0]?.text).toBe("");
      expect(words.choices[0]?.text).toContain(" there");
      await expect(client.completions.create({ ...ids, prompt: "text" })).rejects.toThrow(
        "this model has no tokenizer",
      );
      await expect(client.completions.create({ ...text, model: "none" })).rejects.toThrow("'none' does not exist here");
      const unnamed = await fetch(`${url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ prompt: [1, 5], max_tokens: 1 }),
      });
      expect(await unnamed.json()).toMatchObject({ model: "llama" });

      const saes = Saes.parse(await (await fetch(`${url}/v1/saes`)).json());
      expect(saes.data.map(({ id, model }) => [id, model])).toEqual([["mid", "tales"]]);
      const read = (model: string) =>
        fetch(`${url}/v1/features`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ model, input: "When Mary", top: 2 }),
        });
      expect((await read("tales")).status).toBe(200);
      expect((await read("llama")).status).toBe(400);

      const socket = await connectTraces(url);
      const traced: string[] = [];
      for await (const frame of socket.generate({ ...text, features: { top: 1 } }))
        if (frame.type === "token") traced.push(frame.text);
      expect(traced.join("")).toBe(words.choices[0]?.text);
      await socket.close();
    });
    expect(code).toBe(0);
  });

  test("one of which is broken do not start, and the process ends with its sentence", async () => {
    const { code, err } = await lambdatap(["serve", "--port", "0", "--model", SOUND, "--model", BROKEN], cache);
    expect(code).toBe(1);
    expect(err).toMatch(/^lambdatap serve: .*missing_tensor.*"model\.layers\.1\.mlp\.down_proj\.weight" is missing$/m);
  });
});

describe("the flags of several models", () => {
  test("default to the embedded one", () => {
    expect(plan()).toMatchObject([{ name: "default" }]);
    expect(plan("--model", LLAMA, "--served-model-name", "b")).toMatchObject([{ name: "llama", model: LLAMA }]);
    expect(plan("--model", LLAMA)[0]?.threads).toBe(undefined);
  });

  test("share the threads, which are those of the process", () => {
    const [one, two] = plan("--model", LLAMA, "--model", SOUND);
    expect(one?.threads).toBeGreaterThan(0);
    expect(one?.threads).toBe(two?.threads);
  });

  test("give each SAE to its model, the others have those beside them", () => {
    const args = ["--model", `a=${LLAMA}`, "--model", `a.b=${SOUND}`, "--model", `c=${EMBEDDED}`];
    const saes = (...given: string[]) => plan(...args, ...given.flatMap((sae) => ["--sae", sae])).map(({ sae }) => sae);
    expect(saes()).toEqual([undefined, undefined, undefined]);
    expect(saes("none")).toEqual([[{ folder: "none" }], [{ folder: "none" }], [{ folder: "none" }]]);
    expect(saes("a:./x", "a.b:wide=/y:z", "a:none=./n")).toEqual([
      [{ folder: "./x" }, { id: "none", folder: "./n" }],
      [{ id: "wide", folder: "/y:z" }],
      undefined,
    ]);
    expect(saes("c:none")).toEqual([undefined, undefined, [{ folder: "none" }]]);
  });

  test.each([
    [["--model", LLAMA, "--model", LLAMA], "two models are named 'llama'"],
    [["--model", LLAMA, "--model", SOUND, "--served-model-name", "x"], "--served-model-name goes with one model"],
    [["--model", LLAMA, "--model", SOUND, "--sae", "./x"], "--sae './x': with several models"],
    [["--model", LLAMA, "--model", SOUND, "--sae", "ok:"], "--sae 'ok:'"],
    [["--model", LLAMA, "--model", SOUND, "--sae", "ok:none", "--sae", "ok:./x"], "none goes with no other"],
    [["--model", "=x"], "--model '=x'"],
    [["--model", "x="], "--model 'x='"],
  ])("%j are refused", (args, message) => {
    expect(() => plan(...args)).toThrow(UsageError);
    expect(() => plan(...args)).toThrow(message);
  });
});
