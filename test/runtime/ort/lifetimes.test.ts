import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { z } from "zod";

const Memory = z.object({ warm: z.number(), end: z.number() });

it("everything can be disposed in any order, a thousand times, on constant memory", async () => {
  const child = fileURLToPath(new URL("./lifetimes-child.js", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", child]);
  const { warm, end } = Memory.parse(JSON.parse(stdout));
  // Measured: 2 to 4 MB, which V8's heap takes and keeps. One leaked tensor per life would be 13 MB.
  expect(end - warm).toBeLessThan(8e6);
}, 120_000);
