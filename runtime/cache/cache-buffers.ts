import { turnsSinks } from "../../models/attention/attention.js";
import { codesAtEnds, isQuantised, type KvType, kvElement, kvWidth } from "../../models/keys-values/kv-format.js";
import type { ModelShape } from "../../models/model-shape.js";
import { checkRoom } from "../ort/available-memory.js";
import type { Device } from "../ort/device.js";
import { type ElementType, elementWidth } from "../ort/elements.js";
import type { Tensor } from "../ort/tensor.js";
import { type Resizing, RowBuffer } from "./row-buffer.js";

/** Per layer [1, kvHeads, tokens, headDim]; null in layers that do not turn their starting tokens. */
export type RawKeys = readonly (Tensor | null)[];

/** A chunk's keys and values as the cache keeps them, and its unrotated keys: per layer [1, kvHeads, tokens, ..]. */
export interface ChunkKeyValues {
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  readonly rawKeys: RawKeys;
}

/** Rows, and slots per geometry. */
export interface BufferSize {
  readonly rows: number;
  readonly slots: readonly number[];
}

/** The tensors of a cache. Rows and slots are places in them; which token stands where is the cache's affair. */
export class CacheBuffers implements Disposable {
  /** Per layer, [rows, kvHeads, slots, width]. */
  keys: readonly Tensor[] = [];
  values: readonly Tensor[] = [];
  /** Per geometry: unrotated keys of the starting tokens, [rows, its layers * kvHeads, sinks, headDim]; null where none are turned. */
  sinkKeys: readonly (Tensor | null)[] = [];
  size: BufferSize;
  /** Changes whenever the tensors are replaced. */
  generation = 0;
  /** Keys of all layers, their values, and the starting tokens' keys of the geometries that turn them. */
  readonly #buffers: readonly RowBuffer[];
  readonly #element: ElementType;
  readonly #sinkElement: ElementType;
  /** Elements that a head's key or value takes. */
  readonly #width: number;
  readonly #atEnds: Uint8Array | null;

  constructor(
    readonly shape: ModelShape,
    readonly sinks: number,
    readonly kv: KvType,
    readonly device: Device,
  ) {
    this.#element = kvElement(kv);
    this.#sinkElement = isQuantised(kv) ? "float32" : kv;
    this.#width = kvWidth(kv, shape.headDim);
    this.#atEnds = isQuantised(kv) ? codesAtEnds(kv) : null;
    this.size = { rows: 0, slots: shape.geometries.map(() => 0) };
    const turned = shape.geometries.filter((geometry) => turnsSinks(geometry, sinks));
    const ofLayers = 2 * shape.layerGeometries.length;
    this.#buffers = Array.from(
      { length: ofLayers + turned.length },
      (_, i) => new RowBuffer(device, i < ofLayers ? this.#element : this.#sinkElement),
    );
  }

  /** Bytes of all tensors, had they this size. */
  bytesOf({ rows, slots }: BufferSize): number {
    const { kvHeads, headDim, layerGeometries, geometries } = this.shape;
    const turned = layerGeometries.filter((geometry) => {
      const own = geometries[geometry];
      return own !== undefined && turnsSinks(own, this.sinks);
    });
    const tokens = layerGeometries.reduce((sum, geometry) => sum + 2 * (slots[geometry] ?? 0), 0);
    const sinkBytes = turned.length * this.sinks * headDim * elementWidth(this.#sinkElement);
    return rows * kvHeads * (tokens * this.#width * elementWidth(this.#element) + sinkBytes);
  }

  /**
   * Keeps the first `used` rows; slots of theirs that are new are zeros, and other rows hold anything.
   * @throws OrtError or CudaError when there is no memory; all is then as before.
   */
  resize(size: BufferSize, used: number): void {
    const { kvHeads, headDim, layerGeometries, geometries } = this.shape;
    const ofLayers = layerGeometries.map((geometry) => [size.rows, kvHeads, size.slots[geometry] ?? 0, this.#width]);
    const ofSinks = geometries.flatMap((geometry, i) =>
      turnsSinks(geometry, this.sinks) ? [[size.rows, this.#layersOf(i).length * kvHeads, this.sinks, headDim]] : [],
    );
    const shapes = [...ofLayers, ...ofLayers, ...ofSinks];
    if (this.device.isHost) {
      // The host promises memory that it does not have to each buffer alone, and takes it only when they are written.
      const bytes = shapes.reduce((sum, shape, i) => sum + this.#buffers[i]!.bytesToResize(shape), 0);
      checkRoom(bytes, `allocating a cache of ${size.rows} rows of ${size.slots} slots`, this.bytesOf(size));
    }
    const resizings: Resizing[] = [];
    try {
      for (const [i, shape] of shapes.entries()) resizings.push(this.#buffers[i]!.resize(shape));
    } catch (error) {
      for (const { discard } of resizings) discard();
      throw error;
    }
    for (const { settle } of resizings) settle(used);
    const tensors = this.#buffers.map(({ tensor }) => tensor);
    const layers = layerGeometries.length;
    const ofSinkKeys = tensors.slice(2 * layers);
    this.keys = tensors.slice(0, layers);
    this.values = tensors.slice(layers, 2 * layers);
    this.sinkKeys = geometries.map((geometry) =>
      turnsSinks(geometry, this.sinks) ? (ofSinkKeys.shift() ?? null) : null,
    );
    this.size = size;
    this.generation++;
  }

  copyRow(from: number, to: number): void {
    for (const tensor of this.#tensors())
      tensor.copyFrom(tensor, from * rowSize(tensor), to * rowSize(tensor), rowSize(tensor));
  }

  zeroRow(row: number): void {
    for (const tensor of this.#tensors()) tensor.fill(0, row * rowSize(tensor), rowSize(tensor));
  }

  /** Zeroes a slot of a row in the layers of a geometry. */
  zeroSlot(row: number, geometry: number, slot: number): void {
    const [width, slots] = [this.#width, this.size.slots[geometry] ?? 0];
    for (const layer of this.#layersOf(geometry))
      for (const buffer of [this.keys[layer], this.values[layer]])
        for (let head = 0; head < this.shape.kvHeads; head++)
          buffer?.fill(0, ((row * this.shape.kvHeads + head) * slots + slot) * width, width);
  }

  /** Codes in slots [slot, slot + length) of a row, in the layers of a geometry, that stand at an end of their range. */
  saturatedIn(row: number, geometry: number, slot: number, length: number): number {
    const [width, slots, table] = [this.#width, this.size.slots[geometry] ?? 0, this.#atEnds];
    if (table === null) return 0;
    const { kvHeads } = this.shape;
    const first = (row * kvHeads * slots + slot) * width;
    let sum = 0;
    for (const layer of this.#layersOf(geometry))
      for (const buffer of [this.keys, this.values])
        sum += buffer[layer]!.tally(table, kvHeads, length * width, slots * width, first);
    return sum;
  }

  /** Copies a slot of a row to another one in the layers of a geometry. */
  copySlot(row: number, geometry: number, from: number, to: number): void {
    const { kvHeads } = this.shape;
    const [width, slots] = [this.#width, this.size.slots[geometry] ?? 0];
    const first = row * kvHeads * slots * width;
    for (const layer of this.#layersOf(geometry))
      for (const buffer of [this.keys, this.values])
        buffer[layer]!.moveStretches(kvHeads, width, slots * width, first + from * width, first + to * width);
  }

  /** Copies tokens [from, from + length) of a chunk to slots [slot, slot + length) of a row in the layers of a geometry. */
  store(row: number, geometry: number, slot: number, chunk: ChunkKeyValues, from: number, length: number): void {
    const { kvHeads } = this.shape;
    const width = this.#width;
    const slots = this.size.slots[geometry] ?? 0;
    for (const layer of this.#layersOf(geometry)) {
      for (const [buffer, part] of [
        [this.keys[layer], chunk.keys[layer]],
        [this.values[layer], chunk.values[layer]],
      ]) {
        if (buffer === undefined || part === undefined) continue;
        buffer.copyStretches(part, {
          count: kvHeads,
          length: length * width,
          sourceOffset: from * width,
          sourceStride: (part.shape[2] ?? 0) * width,
          offset: (row * kvHeads * slots + slot) * width,
          stride: slots * width,
        });
      }
    }
  }

  /** Copies the unrotated keys of the first `length` tokens of a chunk to starting tokens [start, start + length) of a row. */
  storeSinks(row: number, start: number, rawKeys: RawKeys, length: number): void {
    const { kvHeads, headDim } = this.shape;
    for (const [geometry, sinkKeys] of this.sinkKeys.entries()) {
      const layers = this.#layersOf(geometry);
      for (const [nth, layer] of layers.entries()) {
        const raw = rawKeys[layer];
        if (!raw) continue;
        sinkKeys?.copyStretches(raw, {
          count: kvHeads,
          length: length * headDim,
          sourceOffset: 0,
          sourceStride: (raw.shape[2] ?? 0) * headDim,
          offset: ((row * layers.length + nth) * kvHeads * this.sinks + start) * headDim,
          stride: this.sinks * headDim,
        });
      }
    }
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers) buffer[Symbol.dispose]();
    [this.keys, this.values, this.sinkKeys] = [[], [], []];
  }

  #layersOf(geometry: number): number[] {
    return [...this.shape.layerGeometries.keys()].filter((layer) => this.shape.layerGeometries[layer] === geometry);
  }

  #tensors(): Tensor[] {
    return [...this.keys, ...this.values, ...this.sinkKeys.flatMap((tensor) => tensor ?? [])];
  }
}

/** Elements of one row of a tensor. */
export const rowSize = (tensor: Tensor): number => tensor.size / (tensor.shape[0] ?? 1);
