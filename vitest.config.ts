import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { closingLineReporter } from "./test/closing-line-reporter.js";

/**
 * Tests run on what `tsc` emitted, so that they exercise the files that ship, worker threads included. Some processes run
 * one file after the other side by side; modules stay loaded, so a module that files share keeps nothing of a file's.
 */
export default defineConfig({
  test: {
    include: ["dist/test/**/*.test.js"],
    exclude: [], // Vitest's default leaves dist/ out
    pool: "forks",
    poolOptions: { forks: { isolate: false, maxForks: Math.min(availableParallelism(), 4) } },
    // Two threads of each of several sessions and servers would spin against each other.
    env: { LAMBDATAP_THREADS: "1" },
    testTimeout: 120_000,
    hookTimeout: 120_000,
    reporters: ["default", closingLineReporter()],
  },
});
