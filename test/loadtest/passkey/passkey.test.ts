import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryFolder } from "../../models/weights/write-safetensors.js";
import { journalIn, passkey, passkeyAsShipped, reportIn } from "./run-passkey.js";
import { type Fault, SINKS, WINDOW, withTarget } from "./scripted-target.js";

const FLAGS = ["--lengths", "1,3", "--depths", "3", "--trials", "2"];

test("a run tries every mode on the same keys, and reports what each found within the window and beyond it", async () => {
  await withTarget(async ({ url, asked, wordsOf }) => {
    const out = temporaryFolder();
    const { code, out: shown } = await passkeyAsShipped(["--target", url, "--out", out, ...FLAGS, "--k", "5"]);
    expect(code).toBe(0);
    expect(shown).toContain("Keys found, within the window and beyond it\n");
    const { model, summary, outcomes, missing, settings, markdown } = reportIn(out);
    expect(model).toBe("words");
    const shares = (trials: number, found: number) => ({ trials, hits: found });
    expect(summary).toMatchObject([
      { mode: "lambda", within: shares(8, 8), beyond: shares(4, 0) },
      { mode: "retrieve", within: shares(8, 8), beyond: shares(4, 4) },
      { mode: "full", within: shares(8, 8), beyond: shares(4, 4) },
      { mode: "truncation", within: shares(8, 8), beyond: shares(4, 0) },
    ]);
    expect(missing).toBe(0);
    expect(outcomes).toHaveLength(48);
    expect(new Set(outcomes.map(({ key }) => key)).size).toBe(12);
    expect(markdown).toContain("**Without retrieval a key beyond the window cannot be found, by construction:**");
    for (const name of ["distance", "depth", "curve"]) {
      expect(readFileSync(join(out, `passkey-${name}.svg`), "utf8")).toMatch(/^<svg /);
      expect(markdown).toContain(`(passkey-${name}.svg)`);
    }

    expect(settings).toMatchObject({ answer: 3, tokens: { filler: 19 } });
    for (const body of asked) {
      expect(body).toMatchObject({ temperature: 0, max_tokens: 3, stream: true });
      expect(wordsOf(body)[0]).toBe("<bos>");
      expect(wordsOf(body).at(-1)).toBe("is");
      expect(body.prompt.length).toBeLessThanOrEqual(3 * WINDOW);
    }
    const truncated = asked.filter((body) => body.prompt.length === WINDOW - 3);
    expect(truncated).toHaveLength(6);
    for (const body of truncated) expect(wordsOf(body).slice(0, SINKS)).toEqual(["<bos>", "There", "is", "an"]);
    expect(asked.map(({ lm_infinite }) => lm_infinite?.retrieve).filter(Boolean)).toEqual(Array(12).fill({ k: 5 }));
  });
});

test("prompts take as many fillers as their length has room for, and distances are counted from the key sentence's end", async () => {
  await withTarget(async ({ url, asked, wordsOf }) => {
    const out = temporaryFolder();
    await passkey(["--target", url, "--out", out, ...FLAGS, "--modes", "full"]);
    const { outcomes, settings } = reportIn(out);
    for (const { length, promptTokens } of outcomes) {
      expect(promptTokens).toBeLessThanOrEqual(length * WINDOW);
      expect(promptTokens).toBeGreaterThan(length * WINDOW - settings.tokens.filler);
    }
    for (const [i, body] of asked.entries()) {
      const words = wordsOf(body);
      expect(outcomes[i]?.distance).toBe(words.length - (words.indexOf("key.") + 1));
    }
  });
});

test("a prompt loses fillers until it fits where a tokenizer makes more of long texts than of short ones", async () => {
  await withTarget(async (target) => {
    const out = temporaryFolder();
    target.extra = (words) => (words > 2 * WINDOW + 40 ? 30 : 0);
    await passkey(["--target", target.url, "--out", out, "--lengths", "3", "--trials", "1", "--modes", "full"]);
    for (const { promptTokens } of reportIn(out).outcomes) {
      expect(promptTokens).toBeLessThanOrEqual(3 * WINDOW);
      expect(promptTokens).toBeGreaterThan(2 * WINDOW + 40);
    }
  });
});

test("a key can be hidden in a book, every trial's in another place of it, and looked for in a smaller window", async () => {
  await withTarget(async ({ url, asked, wordsOf }) => {
    const [out, window] = [temporaryFolder(), 90];
    const book = join("test", "data", "the-wind-in-the-willows.txt");
    const flags = ["--target", url, "--out", out, "--lengths", "2,4", "--depths", "3", "--trials", "2"];
    const asking = ["--modes", "retrieve", "--filler", book, "--window", String(window)];
    expect((await passkey([...flags, ...asking])).code).toBe(0);
    const { outcomes, settings, markdown } = reportIn(out);
    expect(settings).toMatchObject({ window, filler: expect.stringMatching(/^the-wind-in-the-willows.txt \(\w+\)$/) });
    expect(markdown).toContain("Fillers: the-wind-in-the-willows.txt (");
    const told = readFileSync(book, "utf8").replaceAll(/\s+/g, " ");
    const starts = new Set<string>();
    for (const [i, body] of asked.entries()) {
      expect(body.lm_infinite).toEqual({ mode: "lambda", window, retrieve: {} });
      const words = wordsOf(body);
      const [keyBegins, keyEnds] = [words.lastIndexOf("The", words.indexOf("key.") - 5), words.indexOf("key.") + 1];
      expect(outcomes[i]?.distance).toBe(words.length - keyEnds);
      expect(words.length).toBeLessThanOrEqual((outcomes[i]?.length ?? 0) * window);
      expect(words.length).toBeGreaterThan((outcomes[i]?.length ?? 0) * window - 60);
      const prefix = words.indexOf("there.") + 1;
      const [before, after] = [words.slice(prefix, keyBegins), words.slice(keyEnds, -11)].map((part) => part.join(" "));
      expect(told).toContain(before);
      expect(told).toContain(after);
      starts.add(words.slice(prefix, prefix + 8).join(" "));
    }
    expect(starts.size).toBeGreaterThan(8);
  });
});

test("an interrupted run keeps what it measured, ends with 130, and goes on where it stopped", async () => {
  await withTarget(async (target) => {
    const out = temporaryFolder();
    const flags = ["--target", target.url, "--out", out, ...FLAGS, "--modes", "lambda,full"];
    target.fault = (n) => (n === 7 ? "says nothing" : null);
    const interrupted = await passkeyAsShipped(flags, (interrupt) => {
      const timer = setInterval(() => {
        if (target.asked.length < 8) return;
        clearInterval(timer);
        interrupt();
      }, 5);
    });
    expect(interrupted.code).toBe(130);
    expect(reportIn(out)).toMatchObject({ missing: 17, failures: { total: 0 } });
    expect(reportIn(out).markdown).toContain("**Not finished:** 17 trials are missing");
    const kept = journalIn(out);
    expect(kept).toHaveLength(7);

    expect((await passkey(flags)).code).toBe(0);
    expect(target.asked).toHaveLength(7 + 1 + 17);
    expect(journalIn(out).slice(0, 7)).toEqual(kept);
    expect(reportIn(out)).toMatchObject({ missing: 0 });

    expect((await passkey([...flags.slice(0, -1), "truncation"])).code).toBe(0);
    const keysOf = (mode: string) => reportIn(out).outcomes.filter((one) => one.mode === mode);
    expect(keysOf("truncation").map(({ key }) => key)).toEqual(keysOf("lambda").map(({ key }) => key));
    expect(keysOf("lambda")).toHaveLength(12);
  });
});

test("a folder that holds a run with other settings is refused", async () => {
  await withTarget(async ({ url }) => {
    const flags = ["--target", url, "--out", temporaryFolder(), "--lengths", "1", "--trials", "1", "--modes", "full"];
    expect((await passkey(flags)).code).toBe(0);
    const other = await passkey([...flags, "--seed", "2"]);
    expect(other).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^passkey: .* holds a run with other settings/),
    });
  });
});

test("another server is sent texts, and its lengths are those that its usage counts", async () => {
  await withTarget(async ({ url, asked }) => {
    const out = temporaryFolder();
    const flags = ["--target", url, "--out", out, ...FLAGS];
    const { code } = await passkey([...flags, "--window", String(WINDOW), "--question", ""]);
    expect(code).toBe(0);
    const { summary, outcomes } = reportIn(out);
    expect(summary).toMatchObject([{ mode: "served", beyond: { hits: 4, trials: 4 } }]);
    for (const { length, promptTokens } of outcomes) expect(promptTokens).toBeLessThanOrEqual(length * WINDOW);
    for (const { prompt, lm_infinite } of asked) {
      expect(prompt).toMatch(/^There is an important info .*(again|is the pass key)\.$/);
      expect(lm_infinite).toBeUndefined();
    }

    const unsaid = await passkey(flags);
    expect(unsaid).toMatchObject({ code: 1, err: expect.stringMatching(/^passkey: --window <tokens> is needed: /) });
    const modes = await passkey([...flags, "--window", "100", "--modes", "truncation"]);
    expect(modes).toMatchObject({ code: 1, err: expect.stringMatching(/^passkey: --modes: truncation cannot be run/) });
  }, null);
});

test("what goes wrong with one trial is counted by kind; the others are measured, and the same command tries it again", async () => {
  const faults: readonly Fault[] = [
    "refuses",
    "is busy",
    "answers nonsense",
    "answers no stream",
    "writes too much",
    "breaks off",
    "ends early",
    "closes",
    "says nothing",
  ];
  await withTarget(async (target) => {
    const out = temporaryFolder();
    const flags = ["--target", target.url, "--out", out, "--lengths", "1", "--trials", "4", "--modes", "full"];
    target.fault = (n) => (n % 2 === 1 ? (faults[(n - 1) / 2] ?? null) : null);
    const { code, err } = await passkey([...flags, "--timeout", "1"]);
    expect(code).toBe(1);
    expect(err).toMatch(/^passkey: 2 x refused: .* answers 400: no memory for that\npasskey: 3 x nonsense: /);
    const { failures, missing, outcomes, markdown } = reportIn(out);
    expect(failures).toMatchObject({
      total: faults.length,
      kinds: [
        { kind: "refused", count: 2 },
        { kind: "nonsense", count: 3 },
        { kind: "broken off", count: 2 },
        { kind: "unreachable", count: 1 },
        { kind: "timed out", count: 1 },
      ],
    });
    expect([missing, outcomes.length]).toEqual([9, 11]);
    expect(markdown).toContain("| timed out | 1 |");

    expect((await passkey(flags)).code).toBe(0);
    expect(reportIn(out)).toMatchObject({ missing: 0, failures: { total: 0 } });
  });
});

test("a server that is gone ends the run after a few failures, with the report of what was measured", async () => {
  await withTarget(async (target) => {
    const out = temporaryFolder();
    target.fault = (n) => (n >= 4 ? "closes" : null);
    const { code } = await passkey([
      "--target",
      target.url,
      "--out",
      out,
      ...FLAGS,
      "--modes",
      "lambda",
      "--trials",
      "9",
    ]);
    expect(code).toBe(1);
    expect(target.asked).toHaveLength(4 + 5);
    expect(reportIn(out)).toMatchObject({ failures: { total: 5 }, missing: 50 });
  });
});

test("refusals do not end a run: a mode that a server has no memory for leaves the other modes their trials", async () => {
  await withTarget(async (target) => {
    const out = temporaryFolder();
    target.fault = (n) => (target.asked[n]?.lm_infinite?.mode === "full" ? "refuses" : null);
    const { code } = await passkey(["--target", target.url, "--out", out, ...FLAGS, "--modes", "lambda,full"]);
    expect(code).toBe(1);
    expect(reportIn(out)).toMatchObject({ failures: { total: 12 }, missing: 12 });
  });
});

test("several connections try all keys, each once, at random depths if asked for", async () => {
  await withTarget(async ({ url, asked }) => {
    const out = temporaryFolder();
    const flags = ["--target", url, "--out", out, "--lengths", "1,3", "--trials", "6", "--modes", "lambda,full"];
    expect((await passkey([...flags, "--depths", "random", "--connections", "4"])).code).toBe(0);
    expect(asked).toHaveLength(24);
    const { missing, outcomes } = reportIn(out);
    expect(missing).toBe(0);
    expect(new Set(outcomes.map(({ depth }) => depth)).size).toBe(12);
    expect(readFileSync(join(out, "passkey-depth.svg"), "utf8")).toMatch(/>0\.\d-0\.\d</);
  });
});

test("what is wrong before a run begins is said in a line, and no report is written", async () => {
  await withTarget(async ({ url }) => {
    const out = join(temporaryFolder(), "report");
    const lines: [flags: readonly string[], line: RegExp][] = [
      [["--target", "http://127.0.0.1:9"], /^passkey: http:\/\/127.0.0.1:9\/v1\/models cannot be reached/],
      [["--target", "nowhere"], /^passkey: 'nowhere' is no address/],
      [["--target", url, "--model", "other"], /^passkey: .* has no model 'other', but words/],
      [["--target", url, "--modes", "served"], /^passkey: --modes: served cannot be run/],
      [["--target", url, "--window", "101"], /^passkey: --window is at most the server's: 100\n$/],
      [["--target", url, "--filler", "nowhere.txt"], /^passkey: --filler nowhere.txt does not exist\n$/],
      [
        ["--target", url, "--lengths", "0.25"],
        /^passkey: .* without fillers has \d+ tokens, more than 25; say longer --lengths\n$/,
      ],
      [["--target", url, "--trials", "none"], /^passkey: --trials takes a whole number/],
    ];
    for (const [flags, line] of lines)
      expect(await passkey([...flags, "--out", out])).toMatchObject({ code: 1, err: expect.stringMatching(line) });
    expect(existsSync(out)).toBe(false);
  });
});
