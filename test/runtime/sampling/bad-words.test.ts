import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { expect, test } from "vitest";
import { BadWords } from "../../../runtime/sampling/bad-words.js";

test("a word of one token is forbidden always, a longer one's last token behind the others", () => {
  const words = new BadWords([[5], [1, 2], [1, 2, 3], [2, 2]]);
  const forbidden = () => words.next().sort((a, b) => a - b);
  expect(forbidden()).toEqual([5]);
  words.push(1);
  expect(forbidden()).toEqual([2, 5]);
  words.push(2);
  expect(forbidden()).toEqual([2, 3, 5]);
  expect(new BadWords([[5], [1, 2], [1, 2, 3], [2, 2]], words.state()).next()).toEqual(words.next());
  words.push(7);
  expect(forbidden()).toEqual([5]);
});

test("no word of few tokens comes up in a long random text that heeds what is forbidden", () => {
  const random = xoroshiro128plus(1);
  for (let round = 0; round < 20; round++) {
    const words = Array.from({ length: 6 }, () =>
      Array.from({ length: uniformInt(random, 2, 4) }, () => uniformInt(random, 0, 4)),
    );
    const bad = new BadWords(words);
    const text: number[] = [];
    while (text.length < 300) {
      const left = [0, 1, 2, 3, 4].filter((id) => !bad.next().includes(id));
      if (left.length === 0) break;
      const id = left[uniformInt(random, 0, left.length - 1)] ?? 0;
      bad.push(id);
      text.push(id);
    }
    for (const word of words) expect(`,${text.join()},`).not.toContain(`,${word.join()},`);
  }
});
