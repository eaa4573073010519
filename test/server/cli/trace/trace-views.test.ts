import { describe, expect, test } from "vitest";
import { jsonView } from "../../../../server/cli/trace/json.js";
import { saeLabels } from "../../../../server/cli/trace/legend.js";
import { createPalette, LEVELS, RAMP } from "../../../../server/cli/trace/palette.js";
import { createScale } from "../../../../server/cli/trace/scale.js";
import { tableView } from "../../../../server/cli/trace/table.js";
import { tableThenTextView, textView } from "../../../../server/cli/trace/text.js";
import { renderTrace } from "../../../../server/cli/trace/view.js";
import { GenerationFailed } from "../../../../server/errors.js";
import { endEvent, impossible, scriptedEngine, wordEvent } from "../../scripted-engine.js";
import { completionOf } from "../../wire.js";
import { appOf, complete } from "../../with-server.js";
import { readingOf, rendered, saeCard, saying, traceOf } from "./trace-harness.js";

const PLAIN = createPalette("none");
const RGB = createPalette("rgb");
const SGR = /\p{Cc}\[[\d;]*m/gu;
const withoutColor = (text: string) => text.replace(SGR, "");
const file = Number.POSITIVE_INFINITY;
/** The text on the background of a level, as the terminal gets it. */
const on = (level: number, text: string) => RGB.shade(text, level);

describe("the JSON of a trace", () => {
  test("has the numbers of the HTTP interface, a line per token, between start and end", async () => {
    const body = { prompt: "Once upon a time", max_tokens: 12, features: { top: 5, prompt: true } };
    const engine = scriptedEngine();
    const trace = await traceOf(engine, body);
    const lines = (await rendered(trace, jsonView(trace), engine)).trimEnd().split("\n");
    const [start, ...frames] = lines.map((line) => JSON.parse(line));
    const end = frames.pop();
    expect(start).toEqual({ type: "start", model: "org/words", prompt_tokens: 5, saes: ["early", "late"] });
    expect(end).toEqual({
      type: "end",
      finish_reason: "length",
      stop_reason: null,
      text: "",
      usage: {
        prompt_tokens: 5,
        completion_tokens: 12,
        total_tokens: 17,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
    expect(frames[1]).toMatchObject({ type: "prompt", pos: 1, text: "Once" });
    expect(frames[5]).toMatchObject({ type: "token", seq: 0, pos: 5, token_id: 100, text: " w100", logprob: -0.1 });

    const [choice] = (await completionOf(await complete(appOf(scriptedEngine()), body))).choices;
    const features = frames.map(({ pos, token_id, saes }) => ({ pos, token_id, saes }));
    expect(features).toEqual(choice?.features);
    expect(features).toHaveLength(17);
  });

  test("says -9999 for a log-probability of minus infinity, as HTTP does", async () => {
    const engine = scriptedEngine({ script: impossible });
    const trace = await traceOf(engine, {});
    expect(await rendered(trace, jsonView(trace), engine)).toContain('"logprob":-9999,');
  });
});

describe("the table of a trace", () => {
  test("piped into a file has position, token, SAE, scalars and features in every line", async () => {
    const engine = scriptedEngine();
    const trace = await traceOf(engine, { max_tokens: 3 });
    const table = await rendered(trace, tableView(trace, PLAIN, createScale(null), file), engine);
    const rows = table.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    expect(rows).toEqual([
      "   5 ␣w100        early    2 11.1 22.7  0.012 9.7e-3   28:20   33:10",
      "   5 ␣w100        late     2 11.1 22.7 6.0e-3 9.7e-3   29:20   34:10",
      "   6 ␣w101        early    3 11.2 38.4  0.015 9.6e-3   59:31    0:21    5:10",
      "   6 ␣w101        late     3 11.2 38.4 7.2e-3 9.6e-3   60:31   65:21   70:10",
      "   7 ␣w102        early    4 11.3 56.9  0.015 9.5e-3   26:42   31:31   36:21   41:10",
      "   7 ␣w102        late     4 11.3 56.9 7.6e-3 9.5e-3   91:42   96:31  101:21  106:10",
    ]);
    expect(table).toMatch(
      /^# org\/words, f32, window 32, 4 sinks\n# early {2}early at blocks.0.hook_resid_post, 64 features/,
    );
    expect(table).toContain("# prompt  Once upon a time\n");
    expect(table).toMatch(/ 106:10\n# 3 tokens, as many as were asked for\n$/);
  });

  test("shows five features of five digits and three SAEs in 100 columns, and says where there are more", async () => {
    const ids = [1, 3, 5].map((layer) => `blocks.${layer}.hook_resid_post`);
    const saes = ids.map((id) => saeCard(id, 65_536));
    const features = { 10001: 1234.5, 20002: 137, 30003: 12.3, 40004: 3.21, 50005: 0.87, 60006: 0.087 };
    const tokens = [" extraordinarily", "\u6c34\u6c34\u6c34\u6c34\u6c34\u6c34\u6c34", " a"].map((name) => ({
      name,
      readings: ids.map((id) => readingOf(id, features, { l0: 2196 })),
    }));
    for (const [top, palette] of [
      [5, RGB],
      [5, PLAIN],
      [6, RGB],
    ] as const) {
      const engine = saying(tokens, saes);
      const trace = await traceOf(engine, { features: { top } });
      const table = withoutColor(await rendered(trace, tableView(trace, palette, createScale(null), 100), engine));
      const rows = table.split("\n").filter((line) => / L[135] /.test(line) && !line.startsWith("#"));
      expect(rows).toHaveLength(9);
      expect(rows[0]).toContain("10001:1e3 20002:137 30003:12  40004:3.2");
      expect(rows[0]).toMatch(top === 5 ? / 50005:\.87$/ : / 40004:3\.2 …$/);
      for (const row of rows) expect(row.length + (row.match(/\u6c34/g)?.length ?? 0)).toBeLessThanOrEqual(100);
    }
  });

  test("names SAEs by their layers where that is enough", () => {
    const names = (...ids: string[]) => [...saeLabels(ids).values()];
    expect(names("blocks.1.hook_resid_post", "blocks.12.hook_resid_post")).toEqual(["L1", "L12"]);
    expect(names("blocks.1.hook_resid_post", "blocks.1.hook_mlp_out")).toEqual(["L1.resid_post", "L1.mlp_out"]);
    expect(names("blocks.1.hook_resid_post", "blocks.1.hook_resid_post.sparse")).toEqual(["L1", "L1.sparse"]);
    expect(names("blocks.1.hook_resid_post", "my\x07sae")).toEqual(["blocks.1.hook_resid_post", "my\\x07sae"]);
  });

  test("on a terminal colours the token, names it once, and leaves no line coloured", async () => {
    const engine = scriptedEngine();
    const trace = await traceOf(engine, { max_tokens: 6, features: { top: 5, prompt: true } });
    const table = await rendered(trace, tableView(trace, RGB, createScale({ low: 0, high: 9 }), 100), engine);
    expect(table).toContain(on(2, "␣w100       "));
    expect(withoutColor(table).match(/w100/g)).toHaveLength(1);
    expect(withoutColor(table)).toMatch(/ {3}4 ␣time .*\n {18}late .*\n# generated\n {3}5 ␣w100/);
    for (const line of table.split("\n")) {
      const styles = line.match(SGR) ?? [];
      expect(styles.at(-1) ?? "\x1b[0m").toBe("\x1b[0m");
      expect(styles.filter((style) => style !== "\x1b[0m").length).toBeLessThanOrEqual(styles.length / 2);
    }
  });

  test("has a column for the feature that colours, also where it is not among the strongest", async () => {
    const tokens = [readingOf("early", { 7: 5, 9: 4, 3: 0.25 }), readingOf("early", { 7: 5 })].map((early) => ({
      name: " a",
      readings: [early, readingOf("late", { 3: 8 })],
    }));
    const engine = saying(tokens);
    const trace = await traceOf(engine, { colorBy: { sae: null, of: 3 }, features: { top: 2 } });
    const table = await rendered(trace, tableView(trace, PLAIN, createScale(null), file), engine);
    const rows = table.split("\n").filter((line) => line.includes("␣a"));
    expect(rows.map((row) => row.slice(row.indexOf("7.6e-3")))).toEqual([
      "7.6e-3   0.25    7:5.0   9:4.0",
      "7.6e-3           3:8.0",
      "7.6e-3      0    7:5.0",
      "7.6e-3           3:8.0",
    ]);
  });

  test("says of numbers that are none so", async () => {
    const broken = readingOf("early", {}, { z: Number.NaN, f: 0, epsLbo: null, mse: Number.NaN });
    const engine = saying([{ name: " a", readings: [broken] }]);
    const trace = await traceOf(engine, { features: { saes: ["early"] } });
    const table = await rendered(trace, tableView(trace, RGB, createScale(null), 100), engine);
    expect(withoutColor(table)).toContain("   5 ␣a           early    0    -    0      -      -\n");
  });
});

describe("the text of a trace", () => {
  const values = [2, 0, 4, 1, 8, 4];
  const tokens = values.map((value, i) => ({
    name: ` t${i}`,
    readings: [readingOf("early", value === 0 ? { 1: 9 } : { 1: 9, 5: value }), readingOf("late")],
  }));

  test("has each token on the background of its share of the largest so far", async () => {
    const engine = saying(tokens);
    const trace = await traceOf(engine, { colorBy: { sae: "early", of: 5 } });
    const text = await rendered(trace, textView(trace, RGB, createScale(null)), engine);
    const shaded = [on(9, " t0"), " t1", on(9, " t2"), on(3, " t3"), on(9, " t4"), on(5, " t5")].join("");
    expect(text).toContain(shaded);
    expect(withoutColor(text)).toMatch(
      /^Once upon a time t0 t1 t2 t3 t4 t5\n# colour {2}feature 5 of early {2}0 +8 {2}\(/,
    );
  });

  test("is coloured over a range that is given", async () => {
    const engine = saying(tokens);
    const trace = await traceOf(engine, { colorBy: { sae: "early", of: 5 } });
    const text = await rendered(trace, textView(trace, RGB, createScale({ low: 1, high: 4 })), engine);
    expect(text).toContain([on(3, " t0"), " t1", on(9, " t2"), " t3", on(9, " t4"), on(9, " t5")].join(""));
    expect(text).not.toContain("largest so far");
  });

  test("behind a table is coloured over the range of all tokens", async () => {
    const engine = saying(tokens);
    const trace = await traceOf(engine, { colorBy: { sae: "early", of: 5 } });
    const scale = createScale(null);
    const view = tableThenTextView(tableView(trace, RGB, scale, 100), trace, RGB, scale);
    const text = await rendered(trace, view, engine);
    expect(text).toContain([on(3, " t0"), " t1", on(5, " t2"), on(2, " t3"), on(9, " t4"), on(5, " t5")].join(""));
    expect(withoutColor(text).match(/# colour/g)).toHaveLength(1);
  });

  test("without colour has the levels behind the tokens", async () => {
    const engine = saying(tokens);
    const trace = await traceOf(engine, { colorBy: { sae: "early", of: 5 } });
    const text = await rendered(trace, textView(trace, PLAIN, createScale(null)), engine);
    expect(text).toMatch(/^Once upon a time t0⁹ t1 t2⁹ t3³ t4⁹ t5⁵\n# colour .* 0 ¹²³⁴⁵⁶⁷⁸⁹ 8 {2}\(largest so far\)\n/);
    expect(text).not.toContain("\x1b");
  });

  test("is not bleached by the norm that models park at the first position", async () => {
    const script = scriptedEngine({
      script: async function* (sequence, index) {
        const readings = Array.from(sequence.prompt, (_, pos) => [
          readingOf("early", {}, { z: pos === 0 ? 3000 : 10 + pos }),
        ]);
        yield { type: "features", index, start: 0, readings };
        yield endEvent(sequence, index, 0);
      },
    });
    const trace = await traceOf(script, {
      max_tokens: 0,
      colorBy: { sae: null, of: "z" },
      features: { prompt: true, saes: ["early"] },
    });
    const text = await rendered(trace, textView(trace, RGB, createScale(null)), script);
    expect(text).toContain(on(9, "<bos>") + on(9, "Once") + on(9, " upon"));
    expect(text).toMatch(/ 14 {2}\(largest so far\)/);
  });

  test("colours each token's own text, however a stop string holds it back", async () => {
    const at = (name: string, text: string, l0: number) => ({ name, text, readings: [readingOf("early", {}, { l0 })] });
    const engine = saying(
      [at(" un", "", 1), at("der", " u", 4), at("x", "nderx", 9), at(" y", "", 2)],
      undefined,
      " y",
    );
    const trace = await traceOf(engine, { features: { saes: ["early"] } });
    const text = await rendered(trace, textView(trace, RGB, createScale({ low: 0, high: 9 })), engine);
    expect(text).toContain([on(1, " u"), on(1, "n"), on(4, "der"), on(9, "x"), on(2, " y")].join(""));
  });

  test("shows a character of several tokens once, whole", async () => {
    const part = (name: string, text: string, l0: number) => ({
      name,
      text,
      readings: [readingOf("early", {}, { l0 })],
    });
    const engine = saying([
      part("bytes:\\xf0\\x9f", "", 3),
      part("bytes:\\x90\\x80", "🐀", 5),
      part("!", "", 9),
      part("?", "!?", 2),
    ]);
    const trace = await traceOf(engine, { features: { saes: ["early"] } });
    const text = await rendered(trace, textView(trace, RGB, createScale({ low: 0, high: 9 })), engine);
    expect(text).toContain(on(5, "🐀") + on(9, "!") + on(2, "?"));
    expect(text).not.toContain("bytes");
  });

  test("shows a prompt's characters of several tokens once, whole", async () => {
    const engine = scriptedEngine();
    const names: Readonly<Record<number, string>> = {
      0: "<bos>",
      7: "a",
      8: "bytes:\\xf0\\x9f",
      9: "bytes:\\x90\\x80",
    };
    const bytes: Readonly<Record<number, number[]>> = { 7: [0x61], 8: [0xf0, 0x9f], 9: [0x90, 0x80] };
    const tokens = {
      generate: engine.generate,
      tokenTexts: (ids: ArrayLike<number>) => Array.from(ids, (id) => names[id] ?? ""),
      decode: (ids: ArrayLike<number>) =>
        new TextDecoder().decode(Uint8Array.from(Array.from(ids).flatMap((id) => bytes[id] ?? []))),
    };
    const trace = await traceOf(engine, { prompt: [0, 8, 9, 7], max_tokens: 0, features: { prompt: true } });
    const text = await rendered(trace, textView(trace, RGB, createScale(null)), tokens);
    expect(withoutColor(text)).toMatch(/^<bos>🐀a\n#/);
    const json = (await rendered(trace, jsonView(trace), tokens)).split("\n");
    expect(JSON.parse(json[2] ?? "")).toMatchObject({ type: "prompt", pos: 1, text: "bytes:\\xf0\\x9f" });
  });
});

describe("a trace", () => {
  const hostile = "\x1b[2J\x07\u009b31m\u202e\r\n\u2028\u{e0001}\t ok";

  test("shows what would drive the terminal, in every view", async () => {
    const engine = saying([{ name: hostile, readings: [readingOf("early"), readingOf("late")] }]);
    const trace = await traceOf(engine, { prompt: `Once ${hostile}` });
    const scale = createScale(null);
    const table = tableView(trace, PLAIN, scale, file);
    const views = [
      table,
      textView(trace, PLAIN, scale),
      tableThenTextView(table, trace, PLAIN, scale),
      jsonView(trace),
    ];
    for (const view of views) {
      const all = await rendered(trace, view, engine);
      expect(all.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      expect(all).toContain("ok");
    }
    const [, token = ""] = (await rendered(trace, jsonView(trace), engine)).split("\n");
    expect(JSON.parse(token)).toMatchObject({ type: "token", text: hostile });
    expect(await rendered(trace, views[1] ?? table, engine)).toContain(
      "\\x1b[2J\\x07\\x9b31m\\u{202e}\\x0d↵\n\\u{2028}\\u{e0001}⇥ ok",
    );
  });

  test("that is interrupted ends with its legend, and no colour left on", async () => {
    for (const how of ["ends", "throws"]) {
      const interrupted = new AbortController();
      const engine = scriptedEngine({
        async *script(sequence, index) {
          yield wordEvent(sequence, index, 0);
          interrupted.abort();
          if (how === "throws") throw interrupted.signal.reason;
        },
      });
      const trace = await traceOf(engine, {});
      const run = (view: Parameters<typeof rendered>[1]) => rendered(trace, view, engine, interrupted.signal);
      const text = await run(textView(trace, RGB, createScale(null)));
      expect(text).toContain(`${on(9, " w100")}\x1b[0m\n# colour`);
      expect(withoutColor(text)).toMatch(/# 1 token, interrupted\n$/);
    }
  });

  test("that is interrupted ends in JSON as cancelled", async () => {
    const interrupted = new AbortController();
    const engine = scriptedEngine({
      async *script(sequence, index) {
        yield wordEvent(sequence, index, 0);
        interrupted.abort();
      },
    });
    const trace = await traceOf(engine, {});
    const lines = (await rendered(trace, jsonView(trace), engine, interrupted.signal)).trimEnd().split("\n");
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({
      finish_reason: "cancelled",
      usage: { completion_tokens: 1 },
    });
  });

  test("whose sequence fails ends with no colour left on, and throws; in JSON it has no end", async () => {
    const fault = { kind: "not_finite", message: "the logits are not numbers" } as const;
    const engine = scriptedEngine({
      async *script(sequence, index) {
        yield wordEvent(sequence, index, 0);
        yield { type: "error", index, error: fault };
      },
    });
    const trace = await traceOf(engine, {});
    for (const view of [textView(trace, RGB, createScale(null)), jsonView(trace)]) {
      let all = "";
      const write = async () => {
        for await (const piece of renderTrace(trace, view, engine, new AbortController().signal)) all += piece;
      };
      await expect(write()).rejects.toThrow(GenerationFailed);
      expect(all).toContain("w100");
      expect(all).not.toMatch(/"type":"end"|tokens, /);
      expect(all.match(SGR)?.at(-1) ?? "\x1b[0m").toBe("\x1b[0m");
    }
  });
});

describe("the colours of a trace", () => {
  test("have text on them that can be read (WCAG AA), with 24 bits and with 256", () => {
    const linear = (value: number) =>
      value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
    const contrast = ([red = 0, green = 0, blue = 0]: readonly number[]) =>
      (0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue) + 0.05) / 0.05;
    const steps = [0, 95, 135, 175, 215, 255];
    const cube = (color: number) =>
      [Math.floor(color / 36), Math.floor(color / 6) % 6, color % 6].map((i) => steps[i] ?? 0);
    expect(RAMP).toHaveLength(LEVELS);
    for (const [red, green, blue, xterm] of RAMP) {
      expect(contrast([red, green, blue])).toBeGreaterThan(4.5);
      expect(contrast(cube(xterm - 16))).toBeGreaterThan(4.5);
    }
    expect(new Set(RAMP.map(([, , , xterm]) => xterm)).size).toBe(LEVELS);
  });
});
