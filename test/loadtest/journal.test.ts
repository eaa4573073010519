import { appendFileSync, existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { Journal } from "../../loadtest/report/journal.js";
import { temporaryFolder } from "../models/weights/write-safetensors.js";

const Entry = z.object({ length: z.int(), hit: z.boolean() });
const SETTINGS = { seed: 1, lengths: [256, 512] };

const newPath = () => join(temporaryFolder(), "deep", "journal.jsonl");

describe("a journal", () => {
  test("keeps what was measured, so that a run with the same settings goes on where it stopped", () => {
    const path = newPath();
    const journal = Journal.open(path, SETTINGS, Entry);
    expect(journal.entries).toEqual([]);
    journal.add({ length: 256, hit: true });
    journal.add({ length: 512, hit: false });
    const again = Journal.open(path, SETTINGS, Entry);
    expect(again.entries).toEqual([
      { length: 256, hit: true },
      { length: 512, hit: false },
    ]);
    again.add({ length: 512, hit: true });
    expect(Journal.open(path, SETTINGS, Entry).entries).toHaveLength(3);
  });

  test("has every entry on the disk as soon as it is added", () => {
    const path = newPath();
    Journal.open(path, SETTINGS, Entry).add({ length: 256, hit: true });
    expect(readFileSync(path, "utf8")).toBe(`${JSON.stringify(SETTINGS)}\n{"length":256,"hit":true}\n`);
    expect(existsSync(`${path}.new`)).toBe(false);
  });

  test("drops a last line that was cut off, and goes on behind the one before it", () => {
    const path = newPath();
    const journal = Journal.open(path, SETTINGS, Entry);
    journal.add({ length: 256, hit: true });
    journal.add({ length: 512, hit: false });
    truncateSync(path, readFileSync(path).length - 5);
    const again = Journal.open(path, SETTINGS, Entry);
    expect(again.entries).toEqual([{ length: 256, hit: true }]);
    again.add({ length: 512, hit: true });
    expect(Journal.open(path, SETTINGS, Entry).entries).toEqual([
      { length: 256, hit: true },
      { length: 512, hit: true },
    ]);
  });

  test("of other settings is refused, and stays as it is", () => {
    const path = newPath();
    Journal.open(path, SETTINGS, Entry).add({ length: 256, hit: true });
    const before = readFileSync(path, "utf8");
    expect(() => Journal.open(path, { ...SETTINGS, seed: 2 }, Entry)).toThrow(
      `${path} holds a run with other settings (seed); say another --out, or delete it`,
    );
    expect(readFileSync(path, "utf8")).toBe(before);
  });

  test("that is none of ours is refused with the line", () => {
    const path = newPath();
    Journal.open(path, SETTINGS, Entry).add({ length: 256, hit: true });
    appendFileSync(path, `{"length": "long"}\n`);
    expect(() => Journal.open(path, SETTINGS, Entry)).toThrow(`${path}, line 3 is no result of this command`);
    writeFileSync(path, "a letter\nto somebody\n");
    expect(() => Journal.open(path, SETTINGS, Entry)).toThrow("other settings");
  });
});
