/** Kinds of errors whose messages say all. */
const PLAIN = ["Error", "SetupError"];

/** An error in a line, with its kind where that says more. */
export function errorLine(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const kind = PLAIN.includes(error.name) ? "" : `${error.name}: `;
  return `${kind}${error.message}`.replaceAll(/\s*\n\s*/g, " ");
}
