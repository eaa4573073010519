import type { Reporter, TestModule } from "vitest/node";

/**
 * Ends the run with "N passed, N failed", the last line of all. A file that cannot be loaded, a failed hook and an error
 * outside of any test count as failed too.
 */
export function closingLineReporter(): Reporter {
  return {
    onTestRunEnd(modules, unhandledErrors) {
      const passed = modules.reduce((sum, module) => sum + testsOf(module, "passed"), 0);
      const failed = modules.reduce((sum, module) => sum + testsOf(module, "failed") + brokenIn(module), 0);
      const line = `${passed} passed, ${failed + unhandledErrors.length} failed\n`;
      // Vitest's own summary is written at the same time as this is called, and teardown may still speak.
      process.once("exit", () => process.stdout.write(line));
    },
  };
}

const testsOf = (module: TestModule, state: "passed" | "failed"): number => [...module.children.allTests(state)].length;

/** Suites and files that fail by themselves: hooks, imports. */
const brokenIn = (module: TestModule): number =>
  [module, ...module.children.allSuites()].filter((suite) => suite.errors().length > 0).length;
