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
  // 800 lives: one leaked tensor of WIDTH floats each would be 0.2 MB, one leaked session 20 MB and more.
  expect(end - warm).toBeLessThan(4e6);
}, 120_000);
