import { describe, expect, test } from "vitest";
import { readOptions } from "../../../loadtest/load/options.js";

describe("the command line of load", () => {
  test("asks the server at home for everything where it says nothing", () => {
    expect(readOptions([])).toEqual({
      targets: [{ url: "http://127.0.0.1:8080", model: undefined }],
      scenarios: ["short", "long", "streaming", "traces", "mixed", "overload"],
      seconds: 10,
      rounds: 1,
      connections: 4,
      overload: 96,
      maxTokens: 64,
      promptWords: 600,
      timeoutMs: 120_000,
      out: "reports/load",
      json: false,
    });
  });

  test("gives both servers the same model, or each its own, and compares in three rounds", () => {
    const two = ["--target", "http://a", "--target", "http://b", "--model", "words"];
    expect(readOptions(two)).toMatchObject({
      rounds: 3,
      targets: [
        { url: "http://a", model: "words" },
        { url: "http://b", model: "words" },
      ],
    });
    expect(readOptions([...two, "--model", "prose"])?.targets[1]).toEqual({ url: "http://b", model: "prose" });
  });

  test("takes scenarios in any order and runs them in its own", () => {
    expect(readOptions(["--scenarios", "overload, short"])?.scenarios).toEqual(["short", "overload"]);
  });

  test.each([
    [["--seconds", "soon"], "--seconds wants a number of seconds above 0, at most 86400, not 'soon'"],
    [["--seconds", "0"], "--seconds wants a number of seconds above 0"],
    [["--seconds", ""], "--seconds wants a number of seconds above 0"],
    [["--timeout=-1"], "--timeout wants a number of seconds above 0"],
    [["--timeout", "1e9"], "at most 86400"],
    [["--connections", "1.5"], "--connections wants a whole number from 1 to 1024, not '1.5'"],
    [["--overload", "0"], "--overload wants a whole number"],
    [["--rounds", ""], "--rounds wants a whole number"],
    [["--max-tokens", "many"], "--max-tokens wants a whole number"],
    [["--prompt-words", "0"], "--prompt-words wants a whole number"],
    [["--scenarios", "short,tall"], "--scenarios knows no scenario 'tall', but short, long, streaming"],
    [["--scenarios", ""], "--scenarios knows no scenario ''"],
    [["--target", "http://a", "--target", "http://b", "--target", "http://c"], "--target is given once, or twice"],
    [["--model", "a", "--model", "b"], "--model is given once, or once for each --target"],
    [["--model", ""], "--model wants a name"],
    [["--out", ""], "--out wants a folder"],
    [["--speed", "9"], "Unknown option '--speed'"],
    [["fast"], "Unexpected argument 'fast'"],
  ])("%j is refused with a sentence", (args, sentence) => {
    expect(() => readOptions(args)).toThrow(sentence);
  });
});
