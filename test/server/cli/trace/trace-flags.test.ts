import { describe, expect, test } from "vitest";
import { readOptions, UsageError } from "../../../../server/cli/flags.js";
import { GenerateOptions, TraceOptions } from "../../../../server/cli/options.js";
import { colorDepth } from "../../../../server/cli/trace/palette.js";
import { cell, columnsOf } from "../../../../server/cli/trace/printable.js";
import { chooseColor } from "../../../../server/cli/trace/scale.js";
import { CARD } from "../../scripted-engine.js";

const trace = (...args: string[]) => readOptions(TraceOptions, args, {}).options;

describe("the flags of trace", () => {
  test("are those of generate, and its own", () => {
    const sampling = [
      "--max-tokens",
      "60",
      "--temperature",
      "0.5",
      "--top-p",
      "0.9",
      "--top-k",
      "40",
      "--min-p",
      "0.1",
    ];
    const more = ["--repetition-penalty", "1.1", "--seed", "7", "--stop", "x", "--ignore-eos", "--threads", "1"];
    expect(trace(...sampling, ...more)).toMatchObject(readOptions(GenerateOptions, [...sampling, ...more], {}).options);
    expect(trace()).toMatchObject({ read: [], top: 5, prompt: false, edit: [], editsFrom: "generation", json: false });
    expect(trace()).toMatchObject({ view: "table" });
    expect(trace("--read", "a", "--read=b", "--view", "both")).toMatchObject({ read: ["a", "b"], view: "both" });
  });

  test("say what colours: a scalar or a feature, of the first SAE or a named one", () => {
    const colorBy = (text: string) => trace("--color-by", text).colorBy;
    expect(colorBy("eps_lbo")).toEqual({ sae: null, of: "eps_lbo" });
    expect(colorBy("412")).toEqual({ sae: null, of: 412 });
    expect(colorBy("blocks.3.hook_resid_post:412")).toEqual({ sae: "blocks.3.hook_resid_post", of: 412 });
    expect(colorBy("my:sae:z")).toEqual({ sae: "my:sae", of: "z" });
    expect(trace("--color-range", "0.5:1e2").colorRange).toEqual({ low: 0.5, high: 100 });
  });

  test("say what is changed, and how features are chosen", () => {
    const edits = ["my:sae:412:add:-2.5", "a:0:ablate", "a:1:clamp:1e1", "a:2:ablate:pre", "a:3:scale:0:kept"].flatMap(
      (edit) => ["--edit", edit],
    );
    expect(trace(...edits).edit).toEqual([
      { sae: "my:sae", feature: 412, op: "add", value: -2.5 },
      { sae: "a", feature: 0, op: "ablate", value: undefined },
      { sae: "a", feature: 1, op: "clamp", value: 10 },
      { sae: "a", feature: 2, op: "ablate", value: undefined, from: "pre" },
      { sae: "a", feature: 3, op: "scale", value: 0, from: "kept" },
    ]);
    expect(trace("--activation", "top-k:32").activation).toEqual({ top_k: 32 });
    expect(trace("--activation", "top-afa").activation).toBe("top-afa");
  });

  test.each([
    ["--color-by", "loudness"],
    ["--color-by", "-1"],
    ["--color-by", "a:"],
    ["--color-range", "3"],
    ["--color-range", "3:2"],
    ["--color-range", ":"],
    ["--color-range", "0:1:2"],
    ["--activation", "top-k"],
    ["--activation", "top-k:0"],
    ["--activation", "constructor"],
    ["--edit", "a:1:add"],
    ["--edit", "a:1:add:much"],
    ["--edit", "a:1:ablate:1"],
    ["--edit", "a:1:ablate:post"],
    ["--edit", "a:1:clamp:pre"],
    ["--edit", "a:1:add:5:pre"],
    ["--edit", "a:1:add:5:kept"],
    ["--edit", "1:add:5"],
    ["--edit", "a:-1:add:5"],
    ["--edits-from", "start"],
    ["--view", "page"],
    ["--top", "-1"],
  ])("refuse %s %s in a sentence that names the flag", (flag, text) => {
    expect(() => trace(flag, text)).toThrow(UsageError);
    expect(() => trace(flag, text)).toThrow(new RegExp(`^${flag} '${text}': .*expected`, "i"));
  });
});

describe("the colour of a trace", () => {
  test("is of an SAE that is read, and of a feature that it has", () => {
    expect(chooseColor({ sae: null, of: "l0" }, ["late", "early"], CARD).color).toEqual({ sae: "late", of: "l0" });
    expect(chooseColor({ sae: "early", of: 63 }, ["late", "early"], CARD)).toMatchObject({ dSae: 64 });
    expect(() => chooseColor({ sae: "early", of: 64 }, ["early"], CARD)).toThrow(/features 0 to 63/);
    expect(() => chooseColor({ sae: "late", of: "z" }, ["early"], CARD)).toThrow(/not read; those that are: early/);
    expect(() => chooseColor({ sae: "constructor", of: "z" }, ["early"], CARD)).toThrow(UsageError);
  });

  test("has 24 bits where COLORTERM says so, else 256 colours, and none without a terminal or with NO_COLOR", () => {
    expect(colorDepth(true, { COLORTERM: "truecolor" })).toBe("rgb");
    expect(colorDepth(true, { COLORTERM: "24bit" })).toBe("rgb");
    expect(colorDepth(true, {})).toBe("256");
    expect(colorDepth(false, { COLORTERM: "truecolor" })).toBe("none");
    expect(colorDepth(false, { COLORTERM: "truecolor", FORCE_COLOR: "1" })).toBe("rgb");
    expect(colorDepth(true, { COLORTERM: "truecolor", NO_COLOR: "1" })).toBe("none");
    expect(colorDepth(true, { NO_COLOR: "" })).toBe("256");
    expect(colorDepth(true, { TERM: "dumb" })).toBe("none");
  });
});

describe("a cell of the table", () => {
  test.each([
    "word",
    "a long token indeed",
    "水水水水水水水水",
    "a水水水水水水",
    "👩🏽👩🏽👩🏽👩🏽👩🏽",
    "e\u0301e\u0301",
    "",
  ])("has its width: %s", (text) => {
    expect(columnsOf(cell(text, 12))).toBe(12);
  });
});
