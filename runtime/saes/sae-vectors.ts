import { largestInOrder } from "../../models/largest.js";
import { DECODER, ENCODER } from "../../models/sae/sae-matrices.js";
import { Binding } from "../ort/binding.js";
import { Tensor } from "../ort/tensor.js";
import type { SaeResources } from "./sae-resources.js";

/** A feature and the cosine of its decoder row with another's. */
export interface Neighbour {
  readonly feature: number;
  readonly cosine: number;
}

/** The vectors of an SAE's features, in f32 whatever features are read with. Every method throws RangeError for a feature that is not there. */
export class SaeVectors {
  readonly #resources: SaeResources;

  constructor(resources: SaeResources) {
    this.#resources = resources;
  }

  /** One of the SAE's weights, where graphs run. @throws RangeError where there is no such weight. */
  weight(name: string): Tensor {
    return this.#resources.placed(name);
  }

  /** Column of W_enc, [dIn]. */
  encoderColumn(feature: number): Float32Array {
    const { dIn, dSae } = this.#resources.sae.description;
    checkFeature(feature, dSae);
    using column = Tensor.zeros("float32", [dIn]);
    for (let i = 0; i < dIn; i++) column.copyFrom(this.#resources.weight(ENCODER), i * dSae + feature, i, 1);
    return column.read(new Float32Array(dIn));
  }

  /** Row of W_dec, [dOut]. */
  decoderRow(feature: number): Float32Array {
    const { dSae, dOut } = this.#resources.sae.description;
    checkFeature(feature, dSae);
    using row = Tensor.zeros("float32", [dOut]);
    row.copyFrom(this.#resources.weight(DECODER), feature * dOut, 0, dOut);
    return row.read(new Float32Array(dOut));
  }

  /**
   * At most `top` features with the nearest decoder directions, the nearest first; itself and decoder rows of length 0 are
   * left out.
   */
  nearest(feature: number, top: number): Neighbour[] {
    const { description, decoderNorms } = this.#resources.sae;
    const { dSae, dOut } = description;
    const row = this.decoderRow(feature);
    using direction = this.#resources.device.zeros("float32", [dOut, 1]);
    using products = this.#resources.device.zeros("float32", [dSae, 1]);
    direction.write(row);
    const session = this.#resources.session("compare", false);
    using binding = new Binding(session, new Map([["directions", direction]]), new Map([["products", products]]));
    binding.run();
    const cosines = products.read(new Float32Array(dSae));
    for (const [other, product] of cosines.entries()) {
      const cosine = product / ((decoderNorms[feature] ?? 0) * (decoderNorms[other] ?? 0));
      cosines[other] = other === feature || !Number.isFinite(cosine) ? Number.NEGATIVE_INFINITY : cosine;
    }
    const found = new Int32Array(Math.min(top, dSae));
    largestInOrder(cosines, found.length, found);
    return Array.from(found, (other) => ({ feature: other, cosine: cosines[other] ?? 0 })).filter(({ cosine }) =>
      Number.isFinite(cosine),
    );
  }
}

function checkFeature(feature: number, dSae: number): void {
  if (!(Number.isInteger(feature) && feature >= 0 && feature < dSae))
    throw new RangeError(`there is no feature ${feature} among ${dSae}`);
}
