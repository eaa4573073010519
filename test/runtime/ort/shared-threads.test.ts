import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { z } from "zod";

it.skipIf(process.platform !== "linux")(
  "sessions with equal settings work with the same threads, others with their own",
  async () => {
    const child = fileURLToPath(new URL("./shared-threads-child.js", import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [child], { timeout: 60_000 });
    const [first = 0, ...others] = z.array(z.number()).parse(JSON.parse(stdout));
    // The calling thread is one of the three.
    expect(others.map((count) => count - first)).toEqual([0, 0, 0, 2]);
  },
);
