import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { SaeDescription } from "../../models/sae/sae.js";
import { untappable } from "../../models/sae/sae-hook.js";

/** Mean square of what a random unit direction has of a random residual, counted where it is among the largest sixth. */
const MEAN_SQUARE = 0.405;

/**
 * A top-AFA SAE with random unit decoder rows, its encoder the transposed decoder, scaled so that a sixth of the features
 * of a random residual make up its norm.
 */
export function randomSae(dIn: number, dSae: number, seed: number): SaeDescription {
  const random = xoroshiro128plus(seed);
  const uniform = () => ((random.next() >>> 0) + 0.5) / 2 ** 32;
  const wDec = Float32Array.from(
    { length: dSae * dIn },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
  const scale = Math.sqrt(dIn / (MEAN_SQUARE * dSae));
  const wEnc = new Float32Array(dIn * dSae);
  for (let feature = 0; feature < dSae; feature++) {
    const row = wDec.subarray(feature * dIn, (feature + 1) * dIn);
    const norm = Math.hypot(...row);
    for (let i = 0; i < dIn; i++) {
      row[i] = (row[i] ?? 0) / norm;
      wEnc[i * dSae + feature] = scale * (row[i] ?? 0);
    }
  }
  return {
    file: `random-${seed}`,
    format: "saelens",
    kind: "autoencoder",
    dIn,
    dSae,
    dOut: dIn,
    wEnc,
    bEnc: null,
    wDec,
    bDec: new Float32Array(dIn),
    wSkip: null,
    subtractsBDec: true,
    normalisation: "layer_norm",
    activation: { kind: "top-afa" },
    hook: untappable(null, "It was never trained."),
    modelName: null,
    centredWeights: false,
    metadata: {},
  };
}
