import type * as z from "zod";

/** The flags of a command line as their schema has them. @throws Error: a sentence that names the first that is wrong. */
export function checkFlags<Checked>(schema: z.ZodType<Checked>, given: object): Checked {
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Error(`--${String(issue?.path[0])} ${issue?.message}`);
}
