import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { describe, expect, test } from "vitest";
import { StopStrings } from "../../../runtime/sampling/stop-strings.js";

/** What the client gets for each piece until a match, what the end releases last; and the match. */
function run(stops: readonly string[], pieces: readonly string[]) {
  const strings = new StopStrings(stops);
  const texts: string[] = [];
  for (const piece of pieces) {
    const { text, matched } = strings.push(piece);
    texts.push(text);
    if (matched !== null) return { texts, matched };
  }
  return { texts: [...texts, strings.flush()], matched: null };
}

describe("text ends before a stop string", () => {
  test.each<[string, string[], string[], string[], string | null]>([
    ["in one piece", ["STOP"], ["a STOP b"], ["a "], "STOP"],
    ["split over tokens", ["STOP"], ["a S", "TO", "P b"], ["a ", "", ""], "STOP"],
    ["that only seemed to begin", ["STOP"], ["a ST", "OR", "M"], ["a ", "STOR", "M", ""], null],
    ["that never finishes", ["STOP"], ["a STO"], ["a ", "STO"], null],
    ["that begins anew inside of its own beginning", ["aab"], ["aaa", "ab"], ["a", "a"], "aab"],
    ["that contains another", ["abcd", "bc"], ["ab", "cd"], ["", "a"], "bc"],
    ["that another one begins with", ["abc", "ab"], ["abc"], [""], "ab"],
    ["of several at the same end the longest", ["bc", "abc"], ["xa", "bc"], ["x", ""], "abc"],
    ["that is an emoji, not another one", ["😀"], ["a😁", "b😀"], ["a😁", "b"], "😀"],
    ["that is a newline", ["\n"], ["a", "\n", "b"], ["a", ""], "\n"],
    ["after held text that belongs to another one", ["abX", "bc"], ["ab", "c"], ["", "a"], "bc"],
  ])("%s", (_, stops, pieces, texts, matched) => {
    expect(run(stops, pieces)).toEqual({ texts, matched });
  });
});

test("half of an emoji is no stop string, and neither is the empty string", () => {
  expect(run(["\ude00", "\ud83d", ""], ["a😀b"])).toEqual({ texts: ["a😀b", ""], matched: null });
});

test("without stop strings text passes at once", () => {
  expect(run([], ["a", "b"])).toEqual({ texts: ["a", "b", ""], matched: null });
});

test("behind a match nothing comes any more", () => {
  const strings = new StopStrings(["x"]);
  expect(strings.push("axb")).toEqual({ text: "a", matched: "x" });
  expect(strings.push("c")).toEqual({ text: "", matched: "x" });
  expect(strings.flush()).toBe("");
});

test("goes on from what was held back", () => {
  const first = new StopStrings(["STOP"]);
  expect(first.push("a STO").text).toBe("a ");
  const second = new StopStrings(["STOP"], false, structuredClone(first.state()));
  expect(second.push("P")).toEqual({ text: "", matched: "STOP" });
  const third = new StopStrings(["STOP"], false, structuredClone(second.state()));
  expect(third.push("more")).toEqual({ text: "", matched: "STOP" });
});

test("where stop strings are included, text ends behind the first of them, and nothing is held back", () => {
  const strings = new StopStrings(["STOP"], true);
  expect(strings.push("a ST")).toEqual({ text: "a ST", matched: null });
  const other = new StopStrings(["STOP"], true, strings.state());
  expect(other.flush()).toBe("");
  expect(strings.push("OP b")).toEqual({ text: "OP", matched: "STOP" });
  expect(strings.push("c")).toEqual({ text: "", matched: "STOP" });
  expect(new StopStrings(["abc", "bc"], true).push("xabcabc")).toEqual({ text: "xabc", matched: "abc" });
});

/** By definition: the occurrence that ends first; of those the longest. */
function search(stops: readonly string[], text: string): { text: string; matched: string | null } {
  const found = stops
    .map((stop) => ({ stop, start: text.indexOf(stop) }))
    .filter(({ start }) => start >= 0)
    .map(({ stop, start }) => ({ stop, start, end: start + stop.length }))
    .sort((a, b) => a.end - b.end || a.start - b.start)[0];
  return found ? { text: text.slice(0, found.start), matched: found.stop } : { text, matched: null };
}

test("5,000 random texts, cut anywhere, end where a search of the whole text ends them", () => {
  const random = xoroshiro128plus(11);
  const word = (alphabet: readonly string[], longest: number) =>
    Array.from(
      { length: uniformInt(random, 1, longest) },
      () => alphabet[uniformInt(random, 0, alphabet.length - 1)]!,
    ).join("");
  for (let i = 0; i < 5000; i++) {
    const alphabet = i % 2 ? ["a", "b"] : ["a", "b", "😀", "😁", "\n"];
    const stops = Array.from({ length: uniformInt(random, 1, 4) }, () => word(alphabet, 5));
    const pieces = Array.from({ length: uniformInt(random, 1, 8) }, () => word(alphabet, 4));
    const { texts, matched } = run(stops, pieces);
    expect({ text: texts.join(""), matched }, JSON.stringify({ stops, pieces })).toEqual(
      search(stops, pieces.join("")),
    );
  }
});

test("holds back no more than the beginning of a stop string", () => {
  const random = xoroshiro128plus(12);
  const stops = ["abab", "bb", "aabaa"];
  for (let i = 0; i < 500; i++) {
    const strings = new StopStrings(stops);
    let text = "";
    let released = "";
    for (let n = 0; n < 30; n++) {
      const piece = "ab"[uniformInt(random, 0, 1)]!;
      text += piece;
      const step = strings.push(piece);
      released += step.text;
      if (step.matched !== null) break;
      const held = text.slice(released.length);
      const begun = [0, 1, 2, 3, 4].filter((k) =>
        stops.some((stop) => k < stop.length && text.endsWith(stop.slice(0, k))),
      );
      expect(held.length).toBe(Math.max(...begun));
      expect(strings.state()).toEqual({ held, matched: null });
    }
  }
});
