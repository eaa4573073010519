import type { HookName } from "../../../models/hooks.js";
import { rowNorms } from "../../../models/sae/folding.js";
import type { SaeDescription } from "../../../models/sae/sae.js";
import type { PlacedSae } from "../../../runtime/graphs/graph-resources.js";
import type { EditableSae } from "../../../runtime/graphs/residual-edits.js";
import { Tensor } from "../../../runtime/ort/tensor.js";

/** An SAE at a place, without a file: what edits need of it, and its weights as the graphs' inputs. */
export class DescribedSae implements EditableSae, PlacedSae, Disposable {
  readonly #weights = new Map<string, Tensor>();

  constructor(
    readonly id: string,
    readonly hook: HookName,
    readonly description: SaeDescription,
  ) {
    const { wEnc, wDec, bEnc, bDec, dIn, dSae } = description;
    const norms = Float32Array.from(rowNorms(wDec, dSae));
    for (const [name, shape, values] of [
      ["W_enc", [dIn, dSae], wEnc],
      ["b_enc", [dSae], bEnc ?? new Float32Array(dSae)],
      ["b_dec", [dIn], bDec],
      ["decoder_norms", [dSae], norms],
    ] as const) {
      const tensor = Tensor.zeros("float32", shape);
      tensor.write(values);
      this.#weights.set(name, tensor);
    }
  }

  get outline(): SaeDescription {
    return this.description;
  }

  encoderColumn(feature: number): Float32Array {
    const { dIn, dSae, wEnc } = this.description;
    return Float32Array.from({ length: dIn }, (_, i) => wEnc[i * dSae + feature] ?? 0);
  }

  decoderRow(feature: number): Float32Array {
    const { dOut, wDec } = this.description;
    return wDec.slice(feature * dOut, (feature + 1) * dOut);
  }

  weight(name: string): Tensor {
    const tensor = this.#weights.get(name);
    if (tensor === undefined) throw new RangeError(name);
    return tensor;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#weights.values()) tensor[Symbol.dispose]();
  }
}
