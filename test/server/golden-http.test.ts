import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { z } from "zod";
import { expectedTensors, goldenFolder, goldenIds } from "../golden-tensors.js";
import { whileServing } from "./lambdatap-process.js";

const TOLERANCE = 1e-3;
const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true, force: true }));

const ids = goldenIds("lm-infinite");
const golden = expectedTensors("lm-infinite").get("lambda_w32_g4");
const [tokens = 0, vocab = 0] = golden?.shape ?? [];

/** log softmax of the golden logits after token `t`, by token id. */
function goldenLogprobs(t: number): number[] {
  const logits = [...(golden?.values.subarray(t * vocab, (t + 1) * vocab) ?? [])];
  const largest = Math.max(...logits);
  const logSum = largest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
  return logits.map((logit) => logit - logSum);
}

const Answer = z.object({
  choices: z.tuple([
    z.object({
      text: z.string(),
      logprobs: z.object({
        tokens: z.array(z.string()),
        token_logprobs: z.array(z.number().nullable()),
        top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
      }),
    }),
  ]),
  usage: z.object({ prompt_tokens: z.number(), completion_tokens: z.number() }),
});

const FLAGS = ["--model", goldenFolder("lm-infinite"), "--window", "32", "--sinks", "4", "--precision", "f32"];

it("a prompt of token ids, far beyond the window, has the logprobs of the paper's own code over HTTP", async () => {
  expect([ids.length, tokens, vocab]).toEqual([400, 400, 256]);
  await whileServing(FLAGS, cacheRoot, async (url) => {
    const response = await fetch(`${url}/v1/completions`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ prompt: ids, echo: true, logprobs: 5, max_tokens: 0 }),
    });
    expect(response.status).toBe(200);
    const { choices, usage } = Answer.parse(await response.json());
    expect(usage).toEqual({ prompt_tokens: 400, completion_tokens: 0 });
    const { logprobs } = choices[0];
    expect(logprobs.tokens).toEqual(ids.map((id) => `token_id:${id}`));
    expect([logprobs.token_logprobs[0], logprobs.top_logprobs[0]]).toEqual([null, null]);

    const far: string[] = [];
    for (let t = 1; t < ids.length; t++) {
      const want = goldenLogprobs(t - 1);
      const found = logprobs.top_logprobs[t] ?? {};
      const best = [...want].sort((a, b) => b - a).slice(0, 5);
      expect(Object.keys(found).length).toBeGreaterThanOrEqual(5);
      const entries = [[`token_id:${ids[t]}`, logprobs.token_logprobs[t]] as const, ...Object.entries(found)].map(
        ([token, logprob]) => [logprob, want[Number(token.replace("token_id:", ""))]] as const,
      );
      const ranked = Object.values(found)
        .sort((a, b) => b - a)
        .slice(0, 5)
        .map((logprob, i) => [logprob, best[i]] as const);
      for (const [logprob, wanted] of [...entries, ...ranked]) {
        if (!(Math.abs((logprob ?? Number.NaN) - (wanted ?? Number.NaN)) <= TOLERANCE))
          far.push(`${t}: ${logprob} instead of ${wanted}`);
      }
    }
    expect(far).toEqual([]);
  });
});
