import type { KeptFeatures } from "../../models/sae/kept-features.js";
import { Binding } from "../ort/binding.js";
import type { Tensor } from "../ort/tensor.js";
import type { SaeResources } from "./sae-resources.js";

/**
 * Some rows on their way through an SAE: encoded together and, where much of W_dec is needed, decoded together. One row is
 * multiplied with W_enc where that lies in the file, which is as fast as memory is. Several rows want a packed copy (4 rows
 * of 576 x 9,216 on 2 cores: 1.8 ms instead of 6.2): W_enc's size in memory, once such a block is made. With 8 bits there is
 * only a packed copy.
 */
export class SaeBlock implements Disposable {
  readonly #resources: SaeResources;
  readonly #owned: Disposable[] = [];
  readonly #input: Tensor;
  /** [rows, dSae]: products, of which row after row becomes activations. */
  readonly #features: Tensor;
  readonly #output: Tensor;
  readonly #encoding: Binding;
  #decoding: Binding | undefined;
  #activations: Float32Array | undefined;
  readonly #sums: Float32Array;

  constructor(resources: SaeResources, rows: number) {
    const { description, precision } = resources.sae;
    const { dIn, dSae, dOut } = description;
    this.#resources = resources;
    this.#sums = new Float32Array(dOut);
    try {
      const session = resources.session("encode", rows > 1 || precision === "q8");
      this.#input = this.#own(resources.device.zeros("float32", [rows, dIn]));
      this.#features = this.#own(resources.device.zeros("float32", [rows, dSae]));
      this.#output = this.#own(resources.device.zeros("float32", [rows, dOut]));
      const outputs = new Map([["products", this.#features]]);
      this.#encoding = this.#own(new Binding(session, new Map([["input", this.#input]]), outputs));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** @param inputs [dIn] each */
  encode(inputs: readonly Float64Array[]): void {
    for (const [row, values] of inputs.entries()) this.#input.write(values, row * values.length);
    this.#encoding.run();
  }

  /** Copies a row's input W_enc [dSae] to `out`. */
  products(row: number, out: Float32Array): void {
    this.#features.read(out, row * out.length);
  }

  /** What `decode` takes for a row, in place of its products. */
  setActivations(row: number, { count, features, activations }: KeptFeatures): void {
    this.#activations ??= new Float32Array(this.#resources.sae.description.dSae);
    this.#activations.fill(0);
    for (let i = 0; i < count; i++) this.#activations[features[i]!] = activations[i]!;
    this.#features.write(this.#activations, row * this.#activations.length);
  }

  decode(): void {
    const inputs = new Map([["activations", this.#features]]);
    const bind = () =>
      new Binding(
        this.#resources.session("decode", this.#resources.sae.precision === "q8"),
        inputs,
        new Map([["sums", this.#output]]),
      );
    this.#decoding ??= this.#own(bind());
    this.#decoding.run();
  }

  /** A row's activations W_dec [dOut], valid until the next call. */
  sums(row: number): Float32Array {
    return this.#output.read(this.#sums, row * this.#sums.length);
  }

  [Symbol.dispose](): void {
    for (const each of this.#owned) each[Symbol.dispose]();
  }

  #own<Owned extends Disposable>(each: Owned): Owned {
    this.#owned.push(each);
    return each;
  }
}
