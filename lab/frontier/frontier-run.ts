import * as z from "zod";

/** Ways to train that are compared. `topk` and `batch-topk` are set by k, `top-afa` by the coefficient lambda of its loss. */
export const METHODS = ["top-afa", "topk", "batch-topk"] as const;
export type Method = (typeof METHODS)[number];

export const METHOD_TITLES: Readonly<Record<Method, string>> = {
  "top-afa": "top-AFA",
  topk: "top-k",
  "batch-topk": "batch-top-k",
};

/** One training. */
export interface FrontierRun {
  readonly method: Method;
  /** k, or lambda. */
  readonly setting: number;
  /** Of the first weights and of the order of the rows. */
  readonly seed: number;
}

/** What came of it. mse is that of the normalised input, a mean over rows and dimensions; l0 a mean over rows. */
export const RunResult = z.object({
  method: z.enum(METHODS),
  setting: z.number(),
  seed: z.int(),
  /** Of each of the last training steps (100, where there are as many), before the step is taken. */
  last: z.object({ mse: z.array(z.number()).min(1), l0: z.array(z.number()).min(1) }),
  /** Of rows that are not trained on, with the SAE as it is used afterwards. */
  heldOut: z.object({ mse: z.number(), l0: z.number() }),
  /** Features that were dead at the end. */
  dead: z.int(),
});
export type RunResult = z.infer<typeof RunResult>;

const isSameRun = (a: FrontierRun, b: FrontierRun): boolean =>
  a.method === b.method && a.setting === b.setting && a.seed === b.seed;

/** "lambda 1/32", "k 64". */
export function settingTitle({ method, setting }: Pick<FrontierRun, "method" | "setting">): string {
  if (method !== "top-afa") return `k ${setting}`;
  const part = 1 / setting;
  return `λ ${Math.abs(part - Math.round(part)) < 1e-9 ? `1/${Math.round(part)}` : setting}`;
}

/** "top-k, k 64, seed 1". */
export const runTitle = (run: FrontierRun): string =>
  `${METHOD_TITLES[run.method]}, ${settingTitle(run)}, seed ${run.seed}`;

/** Over the last training steps. */
export const meanOfLast = ({ last }: RunResult, of: "mse" | "l0"): number =>
  last[of].reduce((sum, value) => sum + value, 0) / last[of].length;

/** Settings of each method. */
export type Settings = Readonly<Record<Method, readonly number[]>>;

/** Every setting once. */
export const curveRuns = (settings: Settings, seed: number): FrontierRun[] =>
  METHODS.flatMap((method) => settings[method].map((setting) => ({ method, setting, seed })));

/** The run of a method whose error over the last steps is the smallest, whatever its l0, as the paper chooses. */
export function bestOf(results: readonly RunResult[], method: Method, seed: number): RunResult | null {
  const own = results.filter((result) => result.method === method && result.seed === seed);
  return own.reduce<RunResult | null>(
    (best, result) => (best === null || meanOfLast(result, "mse") < meanOfLast(best, "mse") ? result : best),
    null,
  );
}

/** All trainings that are asked for: each setting with the first seed, then each method's best with the others. */
export interface FrontierPlan {
  readonly settings: Settings;
  readonly seeds: readonly number[];
}

/** How many they are. */
export const runsOf = ({ settings, seeds }: FrontierPlan): number =>
  METHODS.reduce(
    (sum, method) => sum + settings[method].length + (settings[method].length > 0 ? seeds.length - 1 : 0),
    0,
  );

/**
 * The next training that has no result yet; null: there is none. The best settings, of all that have run, are known after every
 * setting has.
 */
export function nextRun({ settings, seeds }: FrontierPlan, results: readonly RunResult[]): FrontierRun | null {
  const [first = 1, ...others] = seeds;
  const isMissing = (run: FrontierRun) => !results.some((result) => isSameRun(result, run));
  const missing = curveRuns(settings, first).find(isMissing);
  if (missing !== undefined) return missing;
  const repeats = METHODS.flatMap((method) => {
    const best = bestOf(results, method, first);
    return best === null ? [] : others.map((seed) => ({ method, setting: best.setting, seed }));
  });
  return repeats.find(isMissing) ?? null;
}
