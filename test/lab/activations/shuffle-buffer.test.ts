import { mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type BufferChoice, ShuffleBuffer } from "../../../lab/activations/shuffle-buffer.js";
import type { JsonObject } from "../../../models/model-file.js";
import { countingRows, WIDTH } from "./counting-rows.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "lambdatap-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const CHOICE: BufferChoice = { vectors: 100, batch: 10, seed: 5 };

/** The rows of each batch. */
async function served(buffer: ShuffleBuffer): Promise<number[][]> {
  const batches: number[][] = [];
  const { batch } = buffer.choice;
  for (const into = new Float32Array(batch * WIDTH); await buffer.next(into); )
    batches.push(Array.from({ length: batch }, (_, i) => into[i * WIDTH]!));
  return batches;
}

const open = (rows: number, choice: Partial<BufferChoice> = {}) =>
  ShuffleBuffer.open(folder, countingRows(rows), { ...CHOICE, ...choice });
const files = () => readdirSync(folder).sort();

describe("a shuffle buffer", () => {
  it("serves every row once, mixed, with those of one context far apart", async () => {
    using buffer = await open(1000);
    const rows = (await served(buffer)).flat();
    expect(rows.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    const side = rows.filter((row, i) => i > 0 && Math.abs(row - rows[i - 1]!) === 1).length;
    expect(side).toBeLessThan(60); // 20 of 1,000 pairs are neighbours by chance in a buffer of 100
    // A half waits at a refill: the first rows are found among much later ones.
    expect(Math.max(...rows.slice(0, 100))).toBeGreaterThan(99);
    expect(await buffer.next(new Float32Array(30))).toBe(false);
  });

  it("leaves out what is fewer than a batch at the end", async () => {
    using buffer = await open(1007);
    const rows = (await served(buffer)).flat();
    expect(rows).toHaveLength(1000);
    expect(new Set(rows).size).toBe(1000);
  });

  it("mixes a text that is shorter than itself all at once, and says so", async () => {
    const notices: string[] = [];
    using buffer = await open(45, { onNotice: (line) => notices.push(line) });
    const rows = (await served(buffer)).flat();
    expect(rows).toHaveLength(40);
    expect(Math.max(...rows.slice(0, 10))).toBeGreaterThan(20);
    expect(notices).toEqual(["the text gives 45 rows, fewer than the buffer's 100: all of them are mixed at once"]);
  });

  it("goes on from any checkpoint with the same bytes, wherever the run was killed", async () => {
    const whole = await open(1000);
    const batches = await served(whole);
    whole[Symbol.dispose]();
    for (const killedAfter of [0, 7, 15, 33, 61]) {
      const first = await open(1000);
      let [state, from]: [JsonObject, number] = [first.state(), 0];
      first.checkpointed();
      for (let done = 1; done <= killedAfter; done++) {
        await first.next(new Float32Array(10 * WIDTH));
        if (!first.atRefill || done % 15 !== 0) continue; // every third refill
        [state, from] = [first.state(), done];
        first.checkpointed();
      }
      first[Symbol.dispose]();
      using resumed = await open(1000, { resumed: JSON.parse(JSON.stringify(state)) });
      expect(await served(resumed)).toEqual(batches.slice(from));
    }
  });

  it("keeps the files that it needs, and no more than it said", async () => {
    using buffer = await open(1000);
    const batch = new Float32Array(10 * WIDTH);
    const bytes = () => files().reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
    const { disk } = ShuffleBuffer.needs({ vectors: 100, width: WIDTH });
    buffer.checkpointed();
    for (let i = 0; i < 20; i++) {
      await buffer.next(batch);
      expect(bytes()).toBeLessThanOrEqual(disk);
    }
    expect(files()).toEqual(["rows-0.f32", "rows-4.f32"]);
    buffer.checkpointed();
    expect(files()).toEqual(["rows-4.f32"]);
    expect(() => buffer.state()).not.toThrow();
    await buffer.next(batch);
    expect(() => buffer.state()).toThrow(RangeError);
  });

  it("serves other orders for other seeds", async () => {
    const first = await open(1000);
    const second = await open(1000, { seed: 6 });
    const batch = () => new Float32Array(10 * WIDTH);
    const [one, two] = [batch(), batch()];
    await second.next(two);
    first[Symbol.dispose]();
    using again = await open(1000);
    await again.next(one);
    expect(one).not.toEqual(two);
    second[Symbol.dispose]();
  });
});

describe("what a buffer cannot do is a sentence", () => {
  it("fewer rows than a batch", async () => {
    await expect(open(9)).rejects.toThrow("the text is too short: it gives 9 rows of activations, and a batch has 10");
  });

  it("no room for two batches", async () => {
    await expect(open(1000, { vectors: 19 })).rejects.toThrow("a buffer of 19 rows does not hold two batches of 10");
  });

  it("a full disk: what was there stays, and can be resumed", async () => {
    const buffer = await open(1000);
    const state = buffer.state();
    buffer.checkpointed();
    symlinkSync("/dev/full", join(folder, "rows-1.f32"));
    const batch = new Float32Array(10 * WIDTH);
    for (let i = 0; i < 4; i++) await buffer.next(batch);
    await expect(buffer.next(batch)).rejects.toThrow(
      new RegExp(`${folder} has no room for 1200 bytes of activations more: .*ENOSPC`),
    );
    expect(files()).toEqual(["rows-0.f32"]);
    buffer[Symbol.dispose]();
    using resumed = await open(1000, { resumed: state });
    expect((await served(resumed)).flat()).toHaveLength(1000);
  });

  it("a checkpoint whose rows are gone, cut, changed, or of another buffer", async () => {
    const buffer = await open(1000);
    const state = buffer.state();
    buffer[Symbol.dispose]();
    const path = join(folder, "rows-0.f32");
    const resume = (choice: Partial<BufferChoice> = {}) => open(1000, { resumed: state, ...choice });
    await expect(resume({ batch: 5 })).rejects.toThrow(/had a buffer with another batch: 10/);
    await expect(resume({ seed: 9 })).rejects.toThrow(/another seed: 5/);
    await expect(resume({ vectors: 200 })).rejects.toThrow(/another vectors: 100/);
    writeFileSync(path, new Uint8Array(statSync(path).size));
    await expect(resume()).rejects.toThrow(/is not what it was at the checkpoint/);
    truncateSync(path, 600);
    await expect(resume()).rejects.toThrow(/is not what it was at the checkpoint/);
    truncateSync(path, 601);
    await expect(resume()).rejects.toThrow(/does not hold rows of 3 numbers/);
    rmSync(path);
    await expect(resume()).rejects.toThrow(/rows-0.f32 cannot be read: ENOENT/);
  });
});
