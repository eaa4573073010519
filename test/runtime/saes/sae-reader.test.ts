import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { compileSae } from "../../../models/sae/compile-sae.js";
import { SaeReader } from "../../../runtime/saes/sae-reader.js";
import { randomSae } from "../../bench/random-sae.js";
import { readAll } from "./read-all.js";
import { noise, readerContract } from "./reader-contract.js";
import { ACTIVATIONS, rowOf } from "./same-reading.js";

readerContract(SaeReader);

const cacheRoot = mkdtempSync(join(tmpdir(), "lambdatap-"));
afterAll(() => rmSync(cacheRoot, { recursive: true }));

describe("neighbours", () => {
  const [dIn, dSae] = [40, 5000];
  const x = noise(16, dIn);
  const sae = randomSae(dIn, dSae, 1);

  it.each(ACTIVATIONS)(
    "do not change a bit of a reading with 8 bits, however many there are ($kind)",
    async (activation) => {
      const compiled = await compileSae({ description: sae, precision: "q8", cacheRoot });
      using reader = new SaeReader(compiled, { threads: 2, spin: false });
      const together = readAll(reader, x, activation, 50);
      const alone = together.map((_, row) => readAll(reader, rowOf(x, row, dIn), activation, 50)[0]);
      expect(together).toEqual(alone);
    },
  );

  it.each(ACTIVATIONS)(
    "change with 32 bits nothing but the last digits of mse, once there is one ($kind)",
    async (activation) => {
      const compiled = await compileSae({ description: sae, precision: "f32", cacheRoot });
      using reader = new SaeReader(compiled, { threads: 2, spin: false });
      const together = readAll(reader, x, activation, 50);
      for (const rows of [2, 3, 7, 11]) {
        for (const [row, reading] of readAll(reader, x.subarray(0, rows * dIn), activation, 50).entries()) {
          const want = together[row]!;
          expect(reading).toEqual({ ...want, mse: reading.mse });
          expect(Math.abs(reading.mse / want.mse - 1)).toBeLessThan(1e-5);
        }
      }
    },
  );
});
