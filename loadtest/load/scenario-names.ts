export const SCENARIO_NAMES = ["short", "long", "streaming", "traces", "mixed", "overload"] as const;
export type ScenarioName = (typeof SCENARIO_NAMES)[number];
