import * as z from "zod";

/** What a benchmark prints with --json: its table, what must be known to read it, and a picture where it has one. */
export const BenchResult = z.object({
  benchmark: z.string(),
  figures: z.array(
    z.object({
      name: z.string(),
      value: z.number().nullable(), // NaN and infinity are null in JSON
      unit: z.string(),
      /** Floor, peer or goal. */
      beside: z.string().optional(),
      met: z.boolean().optional(),
    }),
  ),
  notes: z.array(z.string()),
  chart: z
    .object({
      x: z.string(),
      y: z.string(),
      points: z.array(z.object({ series: z.string(), x: z.number(), y: z.number() })),
    })
    .optional(),
});
export type BenchResult = z.output<typeof BenchResult>;

/** The result in what a benchmark printed: its last line. @throws Error where that is none. */
export function readResult(printed: string): BenchResult {
  const line = printed.trimEnd().split("\n").at(-1) ?? "";
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new Error(`it printed no result: ${line.slice(0, 80)}`);
  }
  return BenchResult.parse(value);
}
