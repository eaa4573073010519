import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ActivationFile } from "../../../lab/activations/activation-file.js";
import type { ActivationSource } from "../../../lab/activations/activation-source.js";
import { temporaryFolder } from "../../models/weights/write-safetensors.js";

const WIDTH = 3;

/** Rows that say their number. */
function numbered(rows: number): ActivationSource {
  let given = 0;
  return {
    width: WIDTH,
    fill: async (into) => {
      const filled = Math.min(into.length / WIDTH, rows - given);
      for (let i = 0; i < filled * WIDTH; i++) into[i] = given + Math.floor(i / WIDTH);
      given += filled;
      return filled;
    },
    state: () => ({}),
  };
}

const never = () => Promise.reject(new Error("the source was asked"));

/** Numbers of the rows of the next batches. */
async function served(file: ActivationFile, seed: number, batches: number): Promise<number[]> {
  const source = file.batches(4, seed);
  const into = new Float32Array(4 * WIDTH);
  const rows: number[] = [];
  for (let i = 0; i < batches && (await source.next(into)); i++) rows.push(...into.filter((_, at) => at % WIDTH === 0));
  return rows;
}

test("a file of activations gives every row once in each round, in an order that the seed decides", async () => {
  const path = join(temporaryFolder(), "rows.f32");
  using file = await ActivationFile.open(path, WIDTH, 12, async () => numbered(20));
  const [first, second] = [await served(file, 1, 6), await served(file, 2, 3)];
  const rounds = [first.slice(0, 12), first.slice(12), second];
  for (const round of rounds) expect(round.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, i) => i));
  expect(new Set(rounds.map(String)).size).toBe(3);
  expect(await served(file, 1, 6)).toEqual(first);
  expect([...file.first(2)]).toEqual([0, 0, 0, 1, 1, 1]);
});

test("a file of activations is written once, and holds fewer where the text has fewer", async () => {
  const path = join(temporaryFolder(), "rows.f32");
  (await ActivationFile.open(path, WIDTH, 5000, async () => numbered(4999)))[Symbol.dispose]();
  using again = await ActivationFile.open(path, WIDTH, 5000, never);
  expect([again.rows, again.first(9999).length]).toEqual([4999, 4999 * WIDTH]);
});

test("a file of activations that was not finished is not there", async () => {
  const folder = temporaryFolder();
  const path = join(folder, "rows.f32");
  const failing = { ...numbered(9000), fill: () => Promise.reject(new Error("not finite")) };
  await expect(ActivationFile.open(path, WIDTH, 5000, async () => failing)).rejects.toThrow("not finite");
  expect(readdirSync(folder)).toEqual([]);
  await expect(ActivationFile.open(path, WIDTH, 5000, async () => numbered(0))).rejects.toThrow("the text has none");
  expect(readdirSync(folder)).toEqual([]);
  await expect(
    ActivationFile.open(join(folder, "none", "rows.f32"), WIDTH, 1, async () => numbered(1)),
  ).rejects.toThrow("cannot be written");
  expect(existsSync(join(folder, "none"))).toBe(false);
});

test("batches larger than the file are none", async () => {
  using file = await ActivationFile.open(join(temporaryFolder(), "rows.f32"), WIDTH, 3, async () => numbered(3));
  expect(await served(file, 1, 2)).toEqual([]);
});
