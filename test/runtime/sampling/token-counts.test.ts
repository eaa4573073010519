import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { expect, test } from "vitest";
import { TokenCounts } from "../../../runtime/sampling/token-counts.js";

/** id -> [in prompt, in output] */
function contents(counts: TokenCounts): Map<number, [number, number]> {
  return new Map(
    Array.from({ length: counts.size }, (_, slot) => [counts.id(slot), [counts.inPrompt(slot), counts.inOutput(slot)]]),
  );
}

test.each([1, 2, 7, 64, 100, 1000, Number.POSITIVE_INFINITY])("counts exactly the last %d tokens", (window) => {
  const random = xoroshiro128plus(window === Number.POSITIVE_INFINITY ? 0 : window);
  const counts = new TokenCounts(window);
  const all: { id: number; output: boolean }[] = [];
  for (let n = 0; n < 2500; n++) {
    const token = { id: uniformInt(random, 0, 300), output: n >= 400 };
    all.push(token);
    if (token.output) counts.pushOutput(token.id);
    else counts.pushPrompt(token.id);
    if (n % 97 !== 0 && n > 5) continue;

    const expected = new Map<number, [number, number]>();
    const last = all.slice(Math.max(0, all.length - window));
    for (const { id, output } of last) {
      const [prompt, out] = expected.get(id) ?? [0, 0];
      expected.set(id, output ? [prompt, out + 1] : [prompt + 1, out]);
    }
    expect(contents(counts)).toEqual(expected);
    const restored = new TokenCounts(window, counts.state());
    expect(contents(restored)).toEqual(expected);
    expect(restored.state()).toEqual(Int32Array.from(last, ({ id, output }) => 2 * id + (output ? 1 : 0)));
  }
});

test("its memory is bounded by the window, not by the text", () => {
  const counts = new TokenCounts(100);
  const lengths = () =>
    ["recent", "ids", "inPromptOf", "inOutputOf"].map((name) => {
      const array: unknown = Reflect.get(counts, name);
      return array instanceof Int32Array ? array.length : Number.NaN;
    });
  for (let id = 0; id < 100_000; id++) counts.pushOutput(id);
  for (const length of lengths()) expect(length).toBeLessThanOrEqual(101);
  expect(counts.size).toBe(100);
});
