import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { samplePositions } from "../../../loadtest/perplexity/buckets.js";
import { packageRoot } from "../../../models/package-root.js";
import { temporaryFolder } from "../../models/weights/write-safetensors.js";
import { whileServing } from "../../server/lambdatap-process.js";
import { completionOf } from "../../server/wire.js";
import { perplexityAsShipped as perplexity } from "./run-perplexity.js";

const BOOK = readFileSync(join(packageRoot(), "test", "data", "the-wind-in-the-willows.txt"), "utf8");
const [WINDOW, TOKENS, FULL, SAMPLES] = [64, 500, 150, 6];

/** Two short documents. */
function texts(): string[] {
  const folder = temporaryFolder();
  return [
    ["mole", BOOK.slice(0, 700)],
    ["rat", BOOK.slice(3000, 5000)],
  ].map(([name = "", text = ""]) => {
    const path = join(folder, `${name}.txt`);
    writeFileSync(path, text);
    return path;
  });
}

async function ask(url: string, body: object) {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ max_tokens: 0, temperature: 0, ...body }),
  });
  const [choice] = (await completionOf(response)).choices;
  if (choice === undefined) throw new Error("no choice");
  return choice;
}

async function idsOf(url: string, path: string): Promise<number[]> {
  const { prompt_token_ids: ids } = await ask(url, { prompt: readFileSync(path, "utf8"), return_token_ids: true });
  return ids ?? [];
}

/** NLL of every token but the first, as one whole answer has it. */
async function nllOf(url: string, prompt: readonly number[], lm_infinite: object): Promise<number[]> {
  const { logprobs } = await ask(url, { prompt, echo: true, logprobs: 0, lm_infinite });
  return (logprobs?.token_logprobs ?? []).map((logprob) => -(logprob ?? Number.NaN));
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

describe("perplexity on the embedded model", () => {
  test("is what whole answers say: every bucket, window, full attention, re-encoded and truncated; and is not measured twice", async () => {
    const [first, second] = texts();
    if (first === undefined || second === undefined) throw new Error("no texts");
    const folder = join(temporaryFolder(), "perplexity");
    const flags = ["--window", WINDOW, "--tokens", TOKENS, "--full-tokens", FULL, "--samples", SAMPLES].map(String);
    const code = await whileServing([], temporaryFolder(), async (url) => {
      const args = ["--target", url, "--text", first, "--text", second, ...flags];
      const measured = await perplexity(folder, args);
      expect(measured).toMatchObject({ code: 0, report: { failures: { total: 0 }, interrupted: false } });
      const { buckets = [], documents, goal } = measured.report ?? {};

      const opening = await idsOf(url, first);
      const ids = [...opening, ...(await idsOf(url, second))].slice(0, TOKENS);
      expect(ids[opening.length]).toBe(0); // each document begins with BOS
      expect(documents).toEqual([
        { name: "mole", start: 0 },
        { name: "rat", start: opening.length },
      ]);
      const lambda = await nllOf(url, ids, { window: WINDOW });
      const full = await nllOf(url, ids.slice(0, FULL), { mode: "full" });
      for (const { from, to, ...row } of buckets) {
        expect(row.lambda?.tokens).toBe(to - from);
        expect(row.lambda?.nll).toBeCloseTo(mean(lambda.slice(from, to)), 4);
        expect(row.full?.tokens).toBe(from < FULL ? Math.min(to, FULL) - from : undefined);
        if (row.full) expect(row.full.nll).toBeCloseTo(mean(full.slice(from, to)), 4);
        expect(row.withinWindow).toBe(to <= WINDOW + 1);
        if (row.withinWindow) continue;
        const positions = samplePositions({ from, to }, SAMPLES, 1);
        const [whole, sinks] = [[] as number[], [] as number[]];
        for (const position of positions) {
          const last = ids.slice(position - WINDOW, position + 1);
          const truncated = [...ids.slice(0, 10), ...ids.slice(position - WINDOW + 10, position + 1)];
          whole.push((await nllOf(url, last, {})).at(-1) ?? Number.NaN);
          sinks.push((await nllOf(url, position > WINDOW ? truncated : ids.slice(0, position + 1), {})).at(-1) ?? 0);
        }
        const atSamples = mean(positions.map((position) => lambda[position] ?? 0));
        expect(row.reEncoded?.samples).toBe(SAMPLES);
        expect(row.reEncoded?.sampledNll).toBeCloseTo(mean(whole), 4);
        const above = atSamples - mean(whole);
        expect(row.reEncoded?.lambdaAbove).toBeCloseTo(above, 4);
        expect(row.reEncoded?.nll).toBeCloseTo(mean(lambda.slice(from, to)) - above, 4);
        expect(row.truncation?.sampledNll).toBeCloseTo(mean(sinks), 4);
      }
      expect(buckets.map(({ from }) => from)).toEqual([1, 16, 32, 64, 128, 256]);
      expect(goal?.met).not.toBeNull();
      expect(measured.out).toContain("  lambda - re-encoded  ");
      expect(readFileSync(join(folder, "perplexity.md"), "utf8")).toContain("](perplexity-nll.svg)");
      expect(readFileSync(join(folder, "perplexity-nll.svg"), "utf8")).toMatch(/^<svg .*<\/svg>$/s);

      const journal = readFileSync(join(folder, "perplexity.jsonl"), "utf8");
      writeFileSync(join(folder, "perplexity.jsonl"), journal.slice(0, -30)); // as if it had been cut off
      const again = await perplexity(folder, args);
      expect(again).toMatchObject({ code: 0, report: measured.report });
      expect(readFileSync(join(folder, "perplexity.jsonl"), "utf8")).toBe(journal);

      const more = await perplexity(folder, [...args, "--samples", String(SAMPLES + 2)]);
      const grown = readFileSync(join(folder, "perplexity.jsonl"), "utf8");
      expect(grown.startsWith(journal)).toBe(true);
      expect(grown.slice(journal.length)).not.toContain('"lambda"');
      expect(more.report?.buckets.at(-1)?.reEncoded?.samples).toBe(SAMPLES + 2);

      const other = await perplexity(folder, [...args, "--seed", "2"]);
      expect(other.code).toBe(1);
      expect(other.err).toMatch(/^perplexity: .*other settings/);
    });
    expect(code).toBe(0);
  });
});
