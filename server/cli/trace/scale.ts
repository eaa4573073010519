import type { SaeReading } from "../../../runtime/contract/features.js";
import type { ModelCard } from "../../../runtime/contract/generation.js";
import { toWireFloat } from "../../openai/features.js";
import { UsageError } from "../flags.js";
import type { ColorBy, ColorRange, Scalar } from "./flags.js";
import { LEVELS } from "./palette.js";

/** What tokens are coloured by: a scalar or a feature of one of the SAEs that are read. */
export interface Color {
  readonly sae: string;
  readonly of: Scalar | number;
}

/** @throws UsageError where that SAE is not read, or has no such feature. */
export function chooseColor(
  { sae, of }: ColorBy,
  read: readonly string[],
  card: ModelCard,
): { readonly color: Color; readonly dSae: number } {
  const chosen = card.saes.find(({ id }) => id === (sae ?? read[0]));
  if (chosen === undefined || !read.includes(chosen.id)) {
    throw new UsageError(`--color-by '${sae}:${of}': that SAE is not read; those that are: ${read.join(", ")}`);
  }
  if (typeof of === "number" && of >= chosen.dSae) {
    throw new UsageError(`--color-by '${of}': SAE '${chosen.id}' has features 0 to ${chosen.dSae - 1}`);
  }
  return { color: { sae: chosen.id, of }, dSae: chosen.dSae };
}

/** The number that a token is coloured by; 0 for a feature that is not kept, null where there is none. */
export function colorValue({ sae, of }: Color, readings: readonly SaeReading[]): number | null {
  const reading = readings.find((other) => other.sae === sae);
  if (reading === undefined || Number.isNaN(reading.z)) return null;
  if (typeof of === "number") {
    const place = reading.indices.indexOf(of);
    return place === -1 ? 0 : toWireFloat(reading.values[place] ?? 0);
  }
  const scalar = of === "eps_lbo" ? reading.epsLbo : reading[of];
  return scalar === null ? null : toWireFloat(scalar);
}

/** Values on the palette's levels. */
export interface Scale {
  /** 0 where there is no value, or none above the low end. */
  level(value: number | null, pos: number): number;
  range(): ColorRange;
  /** Whether the range is that of the tokens so far. */
  readonly grows: boolean;
}

/**
 * A linear scale: over the range given, or from 0 to the largest value so far, since tokens are shown before later ones are
 * known. The first position does not stretch it: models park norms of hundreds there (Xiao et al. 2023, arXiv 2309.17453).
 */
export function createScale(given: ColorRange | null): Scale {
  let { low, high } = given ?? { low: 0, high: 0 };
  return {
    level(value, pos) {
      if (value === null) return 0;
      if (given === null && pos > 0) high = Math.max(high, value);
      if (value <= low) return 0;
      return value >= high ? LEVELS : Math.ceil((LEVELS * (value - low)) / (high - low));
    },
    range: () => ({ low, high }),
    grows: given === null,
  };
}
