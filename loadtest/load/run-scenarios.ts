import type { Progress } from "../progress.js";
import type { LoadTarget } from "./load-target.js";
import { type Measurement, measure } from "./measure.js";
import type { LoadOptions } from "./options.js";
import type { ScenarioName } from "./scenario-names.js";
import type { Scenario } from "./scenarios.js";
import { type ServerMemory, watchMemory } from "./server-memory.js";

/** One scenario on one server, once. */
export interface Trial extends Measurement {
  readonly scenario: ScenarioName;
  /** Label of the server. */
  readonly target: string;
  /** 0-based; the trials of a round stand side by side in time. */
  readonly round: number;
  readonly memory: ServerMemory | null;
}

export interface Skipped {
  readonly scenario: ScenarioName;
  readonly target: string;
  readonly why: string;
}

export interface Trials {
  readonly trials: readonly Trial[];
  readonly skipped: readonly Skipped[];
}

/** Scenario by scenario, in each the servers in turns: A, B, A, B. Ends early, with what it has, when the signal aborts. */
export async function runScenarios(
  scenarios: readonly Scenario[],
  loads: readonly LoadTarget[],
  { seconds, rounds, timeoutMs }: LoadOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<Trials> {
  const trials: Trial[] = [];
  const skipped: Skipped[] = [];
  const silent = new Set<LoadTarget>();
  for (const scenario of scenarios) {
    const apt = loads.filter((load) => {
      const why = silent.has(load) ? "the server gave no answer any more" : scenario.skip(load);
      if (why === null) return true;
      skipped.push({ scenario: scenario.name, target: load.label, why });
      progress.advance(scenario.name, rounds);
      return false;
    });
    for (let round = 0; round < rounds; round++) {
      for (const load of apt) {
        if (signal.aborted) return { trials, skipped };
        progress.advance(loads.length === 1 ? scenario.name : `${scenario.name} ${load.label}`, 0);
        const watching = new AbortController();
        const memory = watchMemory(load.target, watching.signal);
        const limits = { seconds, graceMs: timeoutMs, isExpected: scenario.isExpected };
        const measurement = await measure(scenario.connections(load), limits, signal);
        watching.abort();
        trials.push({
          scenario: scenario.name,
          target: load.label,
          round,
          ...measurement,
          memory: await memory,
        });
        if (isSilent(measurement)) silent.add(load);
        progress.advance(scenario.name);
      }
    }
  }
  return { trials, skipped };
}

/** Nothing but silence: asking on would only wait. */
const isSilent = ({ answers, refusals, failures }: Measurement): boolean =>
  answers.length === 0 &&
  refusals === 0 &&
  failures.length > 0 &&
  failures.every(({ kind }) => kind === "unreachable" || kind === "timed out");
