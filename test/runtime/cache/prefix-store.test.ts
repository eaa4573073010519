import { describe, expect, it } from "vitest";
import { PrefixStore } from "../../../runtime/cache/prefix-store.js";

const BYTES = 10;
const filled = (blocks: number, ...texts: readonly (readonly string[])[]): PrefixStore => {
  const store = new PrefixStore(blocks * BYTES);
  for (const text of texts) put(store, text);
  return store;
};
/** Stores the blocks of a text, as reading it does. */
function put(store: PrefixStore, text: readonly string[], expendable: string | null = null): void {
  store.use(text);
  for (const [i, key] of text.entries())
    store.put(key, new Uint8Array(BYTES), { before: text[i - 1] ?? null, expendable });
}
const left = (store: PrefixStore, keys: string): string => [...keys].filter((key) => store.has(key)).join("");

describe("a store that is full", () => {
  it("drops what was used longest ago, a text's last blocks first", () => {
    const store = filled(5, ["a", "b", "c"], ["x", "y"]);
    expect(left(store, "abcxy")).toBe("abcxy");
    put(store, ["p", "q"]);
    expect([left(store, "abcxypq"), store.bytes]).toEqual(["axypq", 50]);
    put(store, ["r", "s"]);
    expect(left(store, "axypqrs")).toBe("xpqrs");
  });

  it("keeps what texts share as long as one of them is used", () => {
    const store = filled(5, ["a", "b", "c"], ["x", "y"], ["a", "b", "d"]);
    // The block that only the first text has is older than the other text.
    expect(left(store, "abcdxy")).toBe("abdxy");
    put(store, ["p", "q"]);
    expect(left(store, "abdxypq")).toBe("abdpq");
  });

  it("drops a text's own end where all else is newer, or a block that the text needs less", () => {
    const store = filled(3, ["a", "b", "c", "d", "e"]);
    expect(left(store, "abcde")).toBe("abc");
    store.put("d", new Uint8Array(BYTES), { before: "c", expendable: "b" });
    expect(left(store, "abcd")).toBe("acd");
    store.put("e", new Uint8Array(BYTES), { before: "d", expendable: "b" });
    expect(left(store, "abcde")).toBe("acd");
  });

  it("takes no block whose text it does not have so far, or that is larger than itself", () => {
    const store = filled(2);
    store.put("b", new Uint8Array(BYTES), { before: "a", expendable: null });
    store.put("c", new Uint8Array(3 * BYTES), { before: null, expendable: null });
    expect([left(store, "bc"), store.bytes]).toEqual(["", 0]);
  });
});

it("uses the memory of what it drops again, but not of what it gave out", () => {
  const store = filled(2, ["a", "b"]);
  const lent = [store.get("a"), store.get("b")];
  put(store, ["c", "d"]);
  const fresh = store.allocate(BYTES);
  expect(lent).not.toContain(fresh);
  const payload = new Uint8Array(BYTES);
  for (const key of ["e", "f"])
    store.put(key, key === "e" ? payload : new Uint8Array(BYTES), { before: null, expendable: null });
  put(store, ["g"]);
  expect(store.allocate(BYTES)).toBe(payload);
  expect(store.allocate(BYTES)).not.toBe(payload);
});

it("has another version when a block came or went, and the same when it did not", () => {
  const store = filled(2, ["a"]);
  const before = store.version;
  put(store, ["a"]);
  expect(store.version).toBe(before);
  put(store, ["a", "b"]);
  expect(store.version).toBeGreaterThan(before);
});
