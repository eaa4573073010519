import { writeFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { temporaryFolder } from "../../models/weights/write-safetensors.js";
import { json, LAMBDATAP_CARD, listModels, type TargetScript, withTarget } from "../scripted-target.js";
import { type Measured, perplexity, perplexityAsShipped } from "./run-perplexity.js";

/** Tokens of the text that the scripted servers read. */
const LENGTH = 100;

function textFile(text = "Once upon a time"): string {
  const path = join(temporaryFolder(), "text.txt");
  writeFileSync(path, text);
  return path;
}

type Body = Record<string, unknown>;
type Answer = (body: Body, response: ServerResponse) => void;

const event = (response: ServerResponse, choice: object) =>
  response.write(`data: ${JSON.stringify({ choices: [{ text: "", finish_reason: null, ...choice }] })}\n\n`);
const logprobs = (values: readonly (number | null)[]) => ({
  logprobs: { tokens: values.map(() => "w"), token_logprobs: values },
});
const usage = { prompt_tokens: 1, completion_tokens: 1 };

/** A sound server's answers: every token has NLL 2, after a window encoded anew 1.5. */
const SOUND = {
  encode: (_: Body, response: ServerResponse) =>
    json(response, {
      choices: [{ text: "", prompt_token_ids: Array.from({ length: LENGTH }, (_, i) => i) }],
      usage,
    }),
  pass: ({ prompt }: Body, response: ServerResponse) => {
    const length = Array.isArray(prompt) ? prompt.length : 0;
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (let start = 0; start < length; start += 30)
      event(
        response,
        logprobs(Array.from({ length: Math.min(30, length - start) }, (_, i) => (start + i ? -2 : null))),
      );
    response.end("data: [DONE]\n\n");
  },
  next: ({ logit_bias: bias }: Body, response: ServerResponse) => {
    const [id] = Object.keys(bias ?? {}).map(Number);
    json(response, { choices: [{ text: "w", token_ids: [id], ...logprobs([-1.5]) }], usage });
  },
};

function scriptOf(parts: { readonly [part in keyof typeof SOUND]?: Answer }): TargetScript {
  const { encode, pass, next } = { ...SOUND, ...parts };
  return {
    models: (response) => listModels(response, LAMBDATAP_CARD),
    completions(body, response) {
      if (typeof body.prompt === "string") encode(body, response);
      else if (body.stream === true) pass(body, response);
      else next(body, response);
    },
  };
}

async function measure(script: TargetScript, folder: string, ...flags: string[]): Promise<Measured> {
  let measured: Measured | undefined;
  await withTarget(script, async ({ url }) => {
    const args = ["--target", url, "--text", textFile(), "--samples", "5", "--timeout", "2", ...flags];
    measured = await perplexity(folder, args);
  });
  if (measured === undefined) throw new Error("it did not run");
  return measured;
}

const stream = (write: (response: ServerResponse) => void): Answer => {
  return (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    write(response);
  };
};
const ended = (...pieces: (readonly (number | null)[])[]): Answer =>
  stream((response) => {
    for (const piece of pieces) event(response, logprobs(piece));
    response.end("data: [DONE]\n\n");
  });
const twos = (count: number) => Array.from({ length: count }, () => -2);

describe("a server that", () => {
  test("is sound is measured: what the differences are is known", async () => {
    const { code, report } = await measure(scriptOf({}), temporaryFolder());
    expect(code).toBe(0);
    expect(report).toMatchObject({ failures: { total: 0 }, goal: { met: false } });
    expect(report?.buckets.map(({ from, to, lambda, full }) => [from, to, lambda?.nll, full?.nll])).toEqual([
      [1, 16, 2, 2],
      [16, 32, 2, 2],
      [32, 64, 2, 2],
      [64, 100, 2, 2],
    ]);
    expect(report?.buckets.at(-1)?.reEncoded).toEqual({
      samples: 5,
      nll: 1.5,
      sampledNll: 1.5,
      lambdaAbove: 0.5,
      standardError: 0,
    });
  });

  test.each<[string, string, RegExp, Answer]>([
    ["gives too few log-probabilities", "nonsense", /31 log-probabilities for 100/, ended([null], twos(30))],
    ["gives too many", "nonsense", /101 log-probabilities for 100/, ended([null], twos(100))],
    ["gives none", "nonsense", /0 log-probabilities for 100/, ended()],
    ["gives null amidst them", "nonsense", /token 2 the log-probability null/, ended([null, -2, null])],
    ["gives a positive one", "nonsense", /token 1 the log-probability 0.5/, ended([null, 0.5])],
    [
      "gives NaN",
      "nonsense",
      /no JSON/,
      stream((response) =>
        response.end('data: {"choices":[{"text":"","logprobs":{"tokens":[""],"token_logprobs":[NaN]}}]}\n\n'),
      ),
    ],
    [
      "is not asked for a stream of this kind",
      "nonsense",
      /answers a stream with/,
      (_, response) => json(response, {}),
    ],
    [
      "closes the socket amidst the stream",
      "broken off",
      /./,
      stream((response) => {
        event(response, logprobs([null, ...twos(39)]));
        setTimeout(() => response.destroy(), 50);
      }),
    ],
    [
      "ends the stream without [DONE]",
      "broken off",
      /before \[DONE\]/,
      stream((response) => {
        event(response, logprobs([null, ...twos(39)]));
        response.end();
      }),
    ],
    [
      "falls silent amidst the stream",
      "timed out",
      /said nothing for 2 s/,
      stream((response) => void event(response, {})),
    ],
    [
      "refuses the pass",
      "refused",
      /400: too long/,
      (_, response) => json(response, { error: { message: "too long" } }, 400),
    ],
    [
      "streams an error",
      "refused",
      /streams: not finite/,
      stream((response) => response.end('data: {"error":{"message":"not finite"}}\n\n')),
    ],
  ])("%s: counted as %s, and the exit code is 1", async (_, kind, message, pass) => {
    const { code, report, err } = await measure(scriptOf({ pass }), temporaryFolder());
    expect(code).toBe(1);
    expect(report?.failures.kinds).toMatchObject([{ kind, example: expect.stringMatching(message) }]);
    expect(err).toContain(`(${kind})`);
  });

  test("breaks off is measured up to there, and further when it is sound again", async () => {
    const folder = temporaryFolder();
    const half = stream((response) => {
      event(response, logprobs([null, ...twos(39)]));
      setTimeout(() => response.destroy(), 50);
    });
    let broken = true;
    const script = scriptOf({ pass: (body, response) => (broken ? half : SOUND.pass)(body, response) });
    await withTarget(script, async ({ url }) => {
      const args = ["--target", url, "--text", textFile(), "--samples", "5"];
      const first = await perplexity(folder, args);
      expect(first).toMatchObject({ code: 1, report: { failures: { total: 1 } } });
      expect(first.report?.buckets.map(({ lambda }) => lambda?.tokens)).toEqual([15, 16, undefined, undefined]);
      broken = false;
      const second = await perplexity(folder, args);
      expect(second).toMatchObject({ code: 0, report: { failures: { total: 0 } } });
      expect(second.report?.buckets.map(({ lambda }) => lambda?.tokens)).toEqual([15, 16, 32, 36]);
    });
  });

  test.each<[string, RegExp, Answer]>([
    [
      "says another token than it was told",
      /told to say token \d+, and says 7000/,
      (_, response) => json(response, { choices: [{ text: "w", token_ids: [7000], ...logprobs([-1]) }], usage }),
    ],
    [
      "says nothing",
      /told to say token \d+, and says nothing/,
      (_, response) => json(response, { choices: [{ text: "", token_ids: [] }], usage }),
    ],
    [
      "says it without a log-probability",
      /told to say token/,
      (body, response) =>
        json(response, { choices: [{ text: "w", token_ids: Object.keys(body.logit_bias ?? {}).map(Number) }], usage }),
    ],
  ])("%s where positions are sampled: counted, and the passes are kept", async (_, message, next) => {
    const { code, report } = await measure(scriptOf({ next }), temporaryFolder());
    expect(code).toBe(1);
    expect(report?.failures).toMatchObject({ total: 2, kinds: [{ kind: "nonsense", count: 2 }] });
    expect(report?.failures.kinds[0]?.example).toMatch(message);
    expect(report?.buckets.every(({ lambda, full }) => lambda?.nll === 2 && full?.nll === 2)).toBe(true);
  });

  test("gives no token ids for a text", async () => {
    const encode: Answer = (_, response) => json(response, { choices: [{ text: "" }], usage });
    const { code, err, report } = await measure(scriptOf({ encode }), temporaryFolder());
    expect([code, report]).toEqual([1, null]);
    expect(err).toMatch(/^perplexity: .*gives no prompt_token_ids/);
  });

  test("is no lambdatap, has no tokenizer, or no such window", async () => {
    const of = (card?: object): TargetScript => ({ ...scriptOf({}), models: (response) => listModels(response, card) });
    const runs = [
      await measure(of(), temporaryFolder()),
      await measure(of({ ...LAMBDATAP_CARD, has_tokenizer: false }), temporaryFolder()),
      await measure(of(LAMBDATAP_CARD), temporaryFolder(), "--window", "33"),
    ];
    expect(runs.map(({ code }) => code)).toEqual([1, 1, 1]);
    expect(runs[0]?.err).toMatch(/is no lambdatap server: .*return_token_ids, lm_infinite/);
    expect(runs[1]?.err).toMatch(/has no tokenizer/);
    expect(runs[2]?.err).toMatch(/--window is at most the server's: 32/);
  });
});

test("an interrupted run writes down what it has, exits with 130, and the same command goes on", async () => {
  const folder = temporaryFolder();
  let holding = true;
  let interrupt = () => {};
  const held = stream((response) => {
    event(response, logprobs([null, ...twos(39)]));
    setTimeout(interrupt, 500);
  });
  const script = scriptOf({ pass: (body, response) => (holding ? held : SOUND.pass)(body, response) });
  await withTarget(script, async ({ url, asked }) => {
    const args = ["--target", url, "--text", textFile(), "--samples", "5", "--modes", "lambda"];
    const first = await perplexityAsShipped(folder, args, (stop) => {
      interrupt = stop;
    });
    expect(first).toMatchObject({ code: 130, report: { interrupted: true, failures: { total: 0 } } });
    expect(first.report?.buckets.map(({ lambda }) => lambda?.tokens)).toEqual([15, 16, undefined, undefined]);
    holding = false;
    const second = await perplexity(folder, args);
    expect(second).toMatchObject({ code: 0, report: { interrupted: false } });
    const before = asked.length;
    const third = await perplexity(folder, args);
    expect(third.report).toEqual(second.report);
    expect(asked.length).toBe(before + 1); // the text is encoded, and nothing measured
  });
});

test("what is wrong with the command line, the text or the address is said in a line", async () => {
  const text = textFile();
  const of = (...args: string[]) => perplexity(temporaryFolder(), args);
  const lines: [RegExp, Measured][] = [
    [/--text wants a text file/, await of()],
    [/--text .*none.txt does not exist/, await of("--text", "none.txt")],
    [/is empty/, await of("--text", textFile(" "))],
    [/--tokens wants a whole number .*'many'/, await of("--text", text, "--tokens", "many")],
    [/--samples wants a whole number .*'1'/, await of("--text", text, "--samples", "1")],
    [/--modes knows no mode 'wild', but lambda, full, truncation/, await of("--text", text, "--modes", "wild")],
    [/Unknown option '--nonsense'/, await of("--text", text, "--nonsense")],
    [/is no address/, await of("--text", text, "--target", "nowhere")],
    [/cannot be reached/, await of("--text", text, "--target", "http://127.0.0.1:9")],
  ];
  for (const [line, { code, err, out }] of lines) {
    expect([code, out]).toEqual([1, ""]);
    expect(err).toMatch(/^perplexity: .+\n$/);
    expect(err).toMatch(line);
  }
  await withTarget({ models: (response) => json(response, [1, 2]) }, async ({ url }) => {
    expect(await of("--text", text, "--target", url)).toMatchObject({
      code: 1,
      err: expect.stringContaining("is no server of OpenAI's protocol"),
    });
  });
  expect(await of("--help")).toMatchObject({ code: 0, out: expect.stringContaining("--full-tokens <n>") });
});
