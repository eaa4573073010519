import type { Precision } from "../../models/weights/block-format.js";
import type { CudaDevice } from "../../runtime/ort/cuda-device.js";
import type { ElementType } from "../../runtime/ort/elements.js";
import { median, timed } from "../bench/report.js";
import { MatrixProduct, type ProductSizes } from "./matrix-product.js";
import { randomTensor } from "./random-tensor.js";

/** Precisions in which a GPU is verified. */
export type GpuPrecision = Extract<Precision, "f32" | "f16" | "bf16">;
export const GPU_PRECISIONS: readonly GpuPrecision[] = ["f32", "f16", "bf16"];

const TYPES: Readonly<Record<GpuPrecision, ElementType>> = { f32: "float32", f16: "float16", bf16: "bfloat16" };
/** Bytes of a number. */
export const WIDTH: Readonly<Record<GpuPrecision, number>> = { f32: 4, f16: 2, bf16: 2 };

const ROUNDS = 7;
/** Each round lasts this long, so that launches and waits do not count. */
const ROUND_MS = 30;

/** What one GPU reaches: what every other figure is held against. Measured once, when it is first asked for. */
export class Ceilings {
  #copy: number | undefined;
  #read: number | undefined;
  readonly #products = new Map<GpuPrecision, number>();

  constructor(
    readonly device: CudaDevice,
    /** Where graphs are written. */
    readonly folder: string,
    /** Small sizes, whose figures mean nothing. */
    readonly tiny: boolean,
  ) {}

  /** Bytes per second of a copy on the device, read and written bytes counted. */
  copyBandwidth(): number {
    this.#copy ??= this.#measureCopy();
    return this.#copy;
  }

  /** Bytes per second at which [1, 16384] x [16384, 16384] in f16 reads its matrix. */
  readBandwidth(): number {
    const side = this.tiny ? 512 : 16_384;
    const sizes = { rows: 1, inner: side, columns: side };
    this.#read ??= (2 * side * side) / this.#secondsOf("f16", sizes);
    return this.#read;
  }

  /** The larger of the two: bytes that must be read are held against it. */
  bandwidth(): number {
    return Math.max(this.copyBandwidth(), this.readBandwidth());
  }

  /** Floating-point operations per second of an 8192 x 8192 x 8192 product; f32 without TF32. */
  operations(precision: GpuPrecision): number {
    const side = this.tiny ? 128 : 8192;
    const known = this.#products.get(precision);
    if (known !== undefined) return known;
    const found = (2 * side ** 3) / this.#secondsOf(precision, { rows: side, inner: side, columns: side });
    this.#products.set(precision, found);
    return found;
  }

  #measureCopy(): number {
    const elements = this.tiny ? 1 << 20 : 1 << 29;
    using from = randomTensor(this.device, "float32", [elements], 1);
    using to = this.device.zeros("float32", [elements]);
    return (2 * from.bytes) / this.#seconds(() => to.copyFrom(from, 0, 0, elements));
  }

  #secondsOf(precision: GpuPrecision, sizes: ProductSizes): number {
    using product = new MatrixProduct(this.device, TYPES[precision], sizes, this.folder);
    return this.#seconds(() => product.run());
  }

  /** Median of rounds of so many runs that a round lasts long enough. */
  #seconds(run: () => void): number {
    const { runtime } = this.device;
    const round = (times: number): number =>
      timed(() => {
        for (let i = 0; i < times; i++) run();
        runtime.wait();
      }) / times;
    round(2);
    const times = Math.min(200, Math.max(1, Math.ceil(ROUND_MS / round(3))));
    return median(Array.from({ length: ROUNDS }, () => round(times))) / 1000;
  }
}
