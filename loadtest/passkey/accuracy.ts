import { wilsonInterval } from "../report/wilson-interval.js";

/** How often keys were found. */
export interface Accuracy {
  readonly hits: number;
  readonly trials: number;
  /** hits / trials. */
  readonly share: number;
  /** 95 % confidence interval of the share. */
  readonly low: number;
  readonly high: number;
}

export function accuracyOf(outcomes: readonly { readonly hit: boolean }[]): Accuracy {
  const hits = outcomes.filter(({ hit }) => hit).length;
  const [low, high] = wilsonInterval(hits, outcomes.length);
  return { hits, trials: outcomes.length, share: hits / outcomes.length, low, high };
}

/** A span of distances, in windows: from `from` to below `to`. */
export interface DistanceBin {
  readonly from: number;
  readonly to: number;
  readonly label: string;
}

/** Below half a window, from there to one, and on in powers of two, so that no bin holds both sides of the window. */
export function distanceBin(distance: number, window: number): DistanceBin {
  const exponent = Math.floor(Math.log2(Math.max(distance / window, Number.MIN_VALUE)));
  if (exponent < -1) return { from: 0, to: 0.5, label: "0-½ W" };
  if (exponent === -1) return { from: 0.5, to: 1, label: "½-1 W" };
  return { from: 2 ** exponent, to: 2 ** (exponent + 1), label: `${2 ** exponent}-${2 ** (exponent + 1)} W` };
}

/** Values by what `groupOf` says, in the order of `place`. */
export function groupBy<Value, Group>(
  values: readonly Value[],
  groupOf: (value: Value) => Group,
  place: (group: Group) => number,
): { readonly group: Group; readonly values: readonly Value[] }[] {
  const groups = new Map<string, { readonly group: Group; readonly values: Value[] }>();
  for (const value of values) {
    const group = groupOf(value);
    const name = JSON.stringify(group);
    const known = groups.get(name) ?? { group, values: [] };
    known.values.push(value);
    groups.set(name, known);
  }
  return [...groups.values()].sort((a, b) => place(a.group) - place(b.group));
}
