import type { StepConfig } from "../../../lab/step/step-config.js";

export type Weights = Readonly<Record<string, Float64Array>>;

/** The losses of a batch in float64, by the definitions alone: no graph, no gradients, all choices made anew. */
export function float64Loss(config: StepConfig, weights: Weights, x: Float64Array, dead: ReadonlySet<number>): number {
  const { dIn, dSae, batch, activation } = config;
  const { W_enc: wEnc, W_dec: wDec, b_dec: bDec, b_enc: bEnc, threshold } = weights;
  const rows = Array.from({ length: batch }, (_, row) => normalised(config, x.subarray(row * dIn, (row + 1) * dIn)));
  const centred = rows.map((row) => row.map((value, i) => value - bDec![i]!));
  const products = centred.map((z) =>
    Float64Array.from({ length: dSae }, (_, f) =>
      z.reduce((sum, value, i) => sum + value * wEnc![i * dSae + f]!, bEnc?.[f] ?? 0),
    ),
  );
  const activations = products.map((row) => row.map((value) => Math.max(0, value)));
  const norms = Float64Array.from({ length: dSae }, (_, f) => Math.hypot(...wDec!.subarray(f * dIn, (f + 1) * dIn)));
  const lengths = centred.map((z) => Math.hypot(...z));
  const kept = keptOf(config, { products, activations, norms, lengths, threshold });
  const decode = (f: Float64Array) =>
    Float64Array.from({ length: dIn }, (_, i) => f.reduce((sum, value, at) => sum + value * wDec![at * dIn + i]!, 0));
  const errors = kept.map((f, row) => decode(f).map((value, i) => value + bDec![i]! - rows[row]![i]!));
  const squares = (all: readonly Float64Array[]) =>
    all.reduce((sum, row) => sum + row.reduce((a, value) => a + value * value, 0), 0);
  if (activation.kind === "jumprelu") {
    const l0 = kept.reduce((sum, f) => sum + f.filter((value) => value !== 0).length, 0) / batch;
    return squares(errors) / batch + activation.l0Coefficient * l0;
  }
  let loss = squares(errors) / (batch * dIn);
  for (const width of activation.kind === "batch-topk" ? (activation.widths ?? []) : []) {
    const first = kept.map((f) => decode(f.map((value, at) => (at < width ? value : 0))));
    const inner = first.map((decoded, row) => decoded.map((value, i) => value + bDec![i]! - rows[row]![i]!));
    if (width < dSae) loss += squares(inner) / (batch * dIn);
  }
  if (activation.kind === "top-afa")
    for (const [row, f] of kept.entries()) {
      const target = activation.target === "centred" ? lengths[row]! : Math.hypot(...rows[row]!);
      loss += (activation.lambda * (Math.hypot(...f) - target) ** 2) / batch;
    }
  if (dead.size === 0) return loss;
  const left = activations.map((row, at) => {
    const own = row.map((value, f) => (dead.has(f) ? value : 0));
    const least = [...own].sort((a, b) => b - a)[Math.min(config.dead.most, dead.size) - 1] ?? 0;
    return decode(own.map((value) => (value >= least ? value : 0))).map((value, i) => value + errors[at]![i]!);
  });
  return loss + (config.dead.penalty * squares(left)) / (batch * dIn);
}

function normalised({ normalisation, dIn }: StepConfig, row: Float64Array): Float64Array {
  if (normalisation === "none") return row;
  const mean = row.reduce((a, b) => a + b, 0) / dIn;
  const deviation = Math.sqrt(row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (dIn - 1));
  return row.map((value) => (value - mean) / (deviation + 1e-5));
}

interface Uncut {
  readonly products: readonly Float64Array[];
  readonly activations: readonly Float64Array[];
  readonly norms: Float64Array;
  readonly lengths: readonly number[];
  readonly threshold: Float64Array | undefined;
}

function keptOf({ activation, batch }: StepConfig, { products, activations, norms, lengths, threshold }: Uncut) {
  const largest = (values: Iterable<number>, k: number) => [...values].sort((a, b) => b - a)[k - 1] ?? 0;
  switch (activation.kind) {
    case "jumprelu":
      return products.map((row) => row.map((value, f) => (value > Math.max(0, threshold![f]!) ? value : 0)));
    case "topk":
      return activations.map((row) => {
        const least = largest(row, activation.k);
        return row.map((value) => (value >= least ? value : 0));
      });
    case "batch-topk": {
      const least = largest(
        activations.flatMap((row) => [...row]),
        activation.k * batch,
      );
      return activations.map((row) => row.map((value) => (value >= least ? value : 0)));
    }
    case "top-afa":
      return activations.map((row, at) => {
        const order = Array.from(row.keys()).sort((a, b) => row[b]! * norms[b]! - row[a]! * norms[a]! || a - b);
        let sum = 0;
        const running = order.map((f, place) => {
          sum += (row[f]! * norms[f]!) ** 2;
          return place === order.length - 1 ? 1e4 : Math.sqrt(sum);
        });
        const distances = running.map((length) => Math.abs(length - lengths[at]!));
        const kept = new Set(order.slice(0, distances.indexOf(Math.min(...distances)) + 1));
        return row.map((value, f) => (kept.has(f) ? value : 0));
      });
  }
}
