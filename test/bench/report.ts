/** One line of a benchmark's table: a figure, and what it is held against. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The floor, peer or goal beside it, in words with its own figure. */
  readonly beside?: string;
  /** Whether the goal is met; left out where there is none. */
  readonly met?: boolean;
}

/** A point of a chart's line `series`. */
export interface Point {
  readonly series: string;
  readonly x: number;
  readonly y: number;
}

/** What a report can draw of a benchmark; `x` and `y` name the axes, with units. */
export interface Chart {
  readonly x: string;
  readonly y: string;
  readonly points: readonly Point[];
}

/** Prints a table, or with --json one line of JSON that reports can merge and draw. */
export function report(
  benchmark: string,
  figures: readonly Figure[],
  notes: readonly string[] = [],
  chart?: Chart,
): void {
  if (process.argv.includes("--json")) {
    process.stdout.write(`${JSON.stringify({ benchmark, figures, notes, ...(chart ? { chart } : {}) })}\n`);
    return;
  }
  const cells = figures.map(({ name, value, unit, beside, met }) => [
    name,
    `${shown(value)} ${unit}`,
    beside ?? "",
    met === undefined ? "" : met ? "met" : "NOT MET",
  ]);
  const widths = [0, 1, 2].map((column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  process.stdout.write(`\n${benchmark}\n`);
  for (const row of cells)
    process.stdout.write(
      `  ${row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd()}\n`,
    );
  for (const note of notes) process.stdout.write(`  ${note}\n`);
}

export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] ?? 0;
  return sum / values.length;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}

/** Milliseconds that `work` takes. */
export function timed(work: () => void): number {
  const began = performance.now();
  work();
  return performance.now() - began;
}

/** Milliseconds of processor time that `work` takes in this process: on one thread, what neighbours disturb least. */
export function processorTime(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** Milliseconds of processor time that this process has used so far: a clock for one thread on a machine that is shared. */
export function processorClock(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Value of `--name value` on the command line. */
export function argument(name: string): string | undefined {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : process.argv[at + 1];
}

const shown = (value: number): string =>
  Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : value.toPrecision(Math.abs(value) >= 100 ? 4 : 3);
