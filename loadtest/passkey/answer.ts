/** The first integer in an answer, which is what the authors score; null where there is none. */
export function firstInteger(answer: string): number | null {
  const [digits] = /\d+/.exec(answer) ?? [];
  return digits === undefined ? null : Number(digits);
}
