import { createHash } from "node:crypto";

/**
 * The seed of a prompt's choice number `copy`, folded into the integers that a number holds exactly. Copy 0 has the request's
 * own, so one choice is the first of several; the others have the first 53 bits of SHA-256 of "seed:copy" in decimal digits,
 * so that the choices of neighbouring seeds have no text in common.
 */
export function copySeed(seed: number, copy: number): number {
  const whole = BigInt(seed);
  if (copy === 0) return Number(BigInt.asIntN(53, whole));
  return Number(createHash("sha256").update(`${whole}:${copy}`).digest().readBigUInt64BE() >> 11n);
}
