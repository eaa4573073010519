import { defineConfig } from "vitest/config";
import { closingLineReporter } from "./test/closing-line-reporter.js";

/** Tests run on what `tsc` emitted, so that they exercise the files that ship, worker threads included. */
export default defineConfig({
  test: {
    include: ["dist/test/**/*.test.js"],
    exclude: [], // Vitest's default leaves dist/ out
    pool: "forks",
    poolOptions: { forks: { singleFork: true } },
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ["default", closingLineReporter()],
  },
});
