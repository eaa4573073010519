import type { SaeReading } from "../../runtime/contract/features.js";

/** What every wire format says of one token and SAE, beside its strongest features (runtime/contract/features.ts has their meaning). */
export interface WireScalars {
  readonly sae: string;
  readonly l0: number;
  readonly z: number | null;
  readonly f: number | null;
  readonly eps_lbo: number | null;
  readonly mse: number | null;
}

/** A reading in JSON: `top` has [feature, activation], strongest first. */
export interface WireReading extends WireScalars {
  readonly top: readonly (readonly [number, number | null])[];
}

/** The readings of one token; `pos` is its position in the whole text. */
export interface TokenFeatures {
  readonly pos: number;
  readonly token_id: number;
  readonly saes: readonly WireReading[];
}

export function toTokenFeatures(pos: number, tokenId: number, readings: readonly SaeReading[]): TokenFeatures {
  return { pos, token_id: tokenId, saes: readings.map(toWireReading) };
}

export function toWireReading(reading: SaeReading): WireReading {
  const top = Array.from(reading.indices, (feature, i) => [feature, toWireFloat(reading.values[i] ?? 0)] as const);
  return { ...toWireScalars(reading), top };
}

export function toWireScalars({ sae, l0, z, f, epsLbo, mse }: SaeReading): WireScalars {
  return {
    sae,
    l0,
    z: toWireFloat(z),
    f: toWireFloat(f),
    eps_lbo: epsLbo === null ? null : toWireFloat(epsLbo),
    mse: toWireFloat(mse),
  };
}

/**
 * A number of f32 precision as every wire format has it: rounded to f32, then the shortest decimal that rounds back to
 * that f32 (0.1, not 0.10000000149011612). null where it is not finite, for which JSON has no number.
 */
export function toWireFloat(value: number): number | null {
  const float = Math.fround(value);
  if (!Number.isFinite(float)) return null;
  // Six digits survive f32 (but next to 0), so fewer are not tried; nine always suffice.
  for (let digits = 6; digits < 9; digits++) {
    const decimal = Number(float.toPrecision(digits));
    if (Math.fround(decimal) === float) return decimal;
  }
  return Number(float.toPrecision(9));
}
