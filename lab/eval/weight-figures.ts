import type { CompiledSae } from "../../models/sae/compile-sae.js";
import { DECODER, ENCODER } from "../../models/sae/sae-matrices.js";
import { Binding } from "../../runtime/ort/binding.js";
import { RowProduct } from "../../runtime/saes/row-product.js";
import { type SaeReaderOptions, SaeResources } from "../../runtime/saes/sae-resources.js";

/** What the weights of an SAE alone say of each of its h features: [h] each. A cosine with a vector of length 0 is 0. */
export interface WeightFigures {
  /** Norms of the columns of W_enc and the rows of W_dec, and the cosines between them. */
  readonly encoderNorms: Float64Array;
  readonly decoderNorms: Float64Array;
  readonly encoderDecoderCosines: Float64Array;
  /** The largest cosine with another row of W_dec, and with another column of W_enc: signed, not absolute. */
  readonly largestDecoderCosines: Float64Array;
  readonly largestEncoderCosines: Float64Array;
}

/** Products that are compared at a time. */
const BLOCK_VALUES = 1 << 21;
const MOST_DIRECTIONS = 128;

/** @param sae in f32 */
export function weightFigures(sae: CompiledSae, options: SaeReaderOptions): WeightFigures {
  using resources = new SaeResources(sae, options);
  const { dIn, dSae, dOut } = sae.description;
  const matrix = (name: string) => resources.weight(name).read(new Float32Array(resources.weight(name).size));
  const [encoder, decoder] = [matrix(ENCODER), matrix(DECODER)];
  const [encoderSquares, products] = [new Float64Array(dSae), new Float64Array(dSae)];
  for (let i = 0; i < dIn; i++)
    for (let feature = 0; feature < dSae; feature++) {
      const value = encoder[i * dSae + feature]!;
      encoderSquares[feature]! += value * value;
      products[feature]! += value * decoder[feature * dOut + i]!;
    }
  const encoderNorms = encoderSquares.map(Math.sqrt);
  const decoderNorms = Float64Array.from({ length: dSae }, (_, feature) =>
    Math.sqrt(decoder.subarray(feature * dOut, (feature + 1) * dOut).reduce((sum, value) => sum + value * value, 0)),
  );
  const most = Math.min(MOST_DIRECTIONS, Math.max(1, Math.floor(BLOCK_VALUES / dSae)));
  return {
    encoderNorms,
    decoderNorms,
    encoderDecoderCosines: products.map((product, i) => cosine(product, encoderNorms[i]!, decoderNorms[i]!)),
    largestDecoderCosines: largestCosines(decoderNorms, most, decoderProducts(resources, decoder)),
    largestEncoderCosines: largestCosines(encoderNorms, most, encoderProducts(resources, encoder)),
  };
}

/** Products [count, h] of the vectors of `count` features from `first` on with those of all. */
type Products = (first: number, count: number) => Float32Array;

function decoderProducts(resources: SaeResources, decoder: Float32Array): Products {
  const { dSae, dOut } = resources.sae.description;
  return (first, count) => {
    using directions = resources.device.zeros("float32", [dOut, count]);
    using products = resources.device.zeros("float32", [dSae, count]);
    directions.write(transposed(decoder.subarray(first * dOut, (first + count) * dOut), count));
    const session = resources.session("compare", false);
    using binding = new Binding(session, new Map([["directions", directions]]), new Map([["products", products]]));
    binding.run();
    return transposed(products.read(new Float32Array(products.size)), dSae);
  };
}

function encoderProducts(resources: SaeResources, encoder: Float32Array): Products {
  const { dIn, dSae } = resources.sae.description;
  return (first, count) => {
    using product = new RowProduct(resources, "encode", Number.POSITIVE_INFINITY);
    product.reserve(count);
    const columns = Float32Array.from({ length: count * dIn }, (_, at) => {
      const [column, i] = [first + Math.floor(at / dIn), at % dIn];
      return encoder[i * dSae + column]!;
    });
    product.write(0, columns);
    product.run(count);
    const products = new Float32Array(count * dSae);
    product.read(0, products);
    return products;
  };
}

function largestCosines(norms: Float64Array, most: number, productsOf: Products): Float64Array {
  const largest = new Float64Array(norms.length).fill(Number.NEGATIVE_INFINITY);
  for (let first = 0; first < norms.length; first += most) {
    const count = Math.min(most, norms.length - first);
    const products = productsOf(first, count);
    for (let row = 0; row < count; row++) {
      const own = first + row;
      for (let other = 0; other < norms.length; other++) {
        if (other === own) continue;
        const value = cosine(products[row * norms.length + other]!, norms[own]!, norms[other]!);
        if (value > largest[own]!) largest[own] = value;
      }
    }
  }
  return largest.map((value) => (value === Number.NEGATIVE_INFINITY ? 0 : value));
}

const cosine = (product: number, a: number, b: number): number => (a === 0 || b === 0 ? 0 : product / (a * b));

/** [rows, columns] as [columns, rows]. */
function transposed(values: Float32Array, rows: number): Float32Array {
  const columns = values.length / rows;
  const turned = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) turned[column * rows + row] = values[row * columns + column]!;
  return turned;
}
