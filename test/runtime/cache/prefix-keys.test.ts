import { describe, expect, it } from "vitest";
import { blockKeys, type PrefixSource } from "../../../runtime/cache/prefix-keys.js";

const source: PrefixSource = {
  model: { content: "c".repeat(64), precision: "f32", elements: "float32", keys: "k".repeat(64) },
  geometry: { window: 32, sinks: 4 },
  edits: [],
  salt: undefined,
};
const keys = (ids: readonly number[], more: Partial<PrefixSource> = {}, tokens = 2) =>
  blockKeys({ ...source, ...more }, Int32Array.from(ids), tokens);

describe("the names of a text's blocks", () => {
  it("are of whole blocks, and the same as far as texts begin alike", () => {
    const [one, other] = [keys([1, 2, 3, 4, 5]), keys([1, 2, 3, 4, 6, 7, 8])];
    expect([one.length, other.length]).toEqual([2, 3]);
    expect(other.slice(0, 2)).toEqual(one);
    expect(keys([1])).toEqual([]);
  });

  it("stand for all before them: the same ids have another name behind others", () => {
    const all = [...keys([1, 2, 1, 2, 1, 2]), ...keys([2, 1, 1, 2, 1, 2]), ...keys([1, 2, 2, 1, 1, 2])];
    // Only the first block of the last text is one of the first text's, too.
    expect(new Set(all).size).toBe(all.length - 1);
  });

  it("are others where keys and values are", () => {
    const edit = { sae: "a", feature: 1, op: "add", value: 2, from: "kept" } as const;
    const others: Partial<PrefixSource>[] = [
      {},
      { model: { ...source.model, content: "d".repeat(64) } },
      { model: { ...source.model, precision: "q4" } },
      { model: { ...source.model, elements: "q8" } },
      { model: { ...source.model, keys: "l".repeat(64) } },
      { geometry: { window: 33, sinks: 4 } },
      { geometry: { window: Number.POSITIVE_INFINITY, sinks: 4 } },
      { geometry: { window: 32, sinks: 0 } },
      { edits: [edit] },
      { edits: [{ ...edit, value: 3 }] },
      { salt: "a" },
      { salt: "b" },
    ];
    const first = [...others.map((more) => keys([1, 2, 3, 4], more)[0]), keys([1, 2, 3, 4], {}, 4)[0]];
    expect(new Set(first).size).toBe(others.length + 1);
  });
});
