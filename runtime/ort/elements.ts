import { narrowBF16, narrowF16, widenBF16, widenF16 } from "../../models/weights/half-precision.js";

const ELEMENT = {
  float32: { onnx: 1, bytes: 4, array: Float32Array },
  uint8: { onnx: 2, bytes: 1, array: Uint8Array },
  int8: { onnx: 3, bytes: 1, array: Int8Array },
  int32: { onnx: 6, bytes: 4, array: Int32Array },
  int64: { onnx: 7, bytes: 8, array: BigInt64Array },
  bool: { onnx: 9, bytes: 1, array: Uint8Array },
  float16: { onnx: 10, bytes: 2, array: Uint16Array },
  bfloat16: { onnx: 16, bytes: 2, array: Uint16Array },
} as const;

/** Types that JavaScript has no numbers for: they go in rounded to nearest even, and come out as f32. */
const HALF = {
  float16: { narrow: narrowF16, widen: widenF16 },
  bfloat16: { narrow: narrowBF16, widen: widenBF16 },
} as const;

export type ElementType = keyof typeof ELEMENT;
type HalfType = keyof typeof HALF;
export type Elements = Float32Array | Uint8Array | Int8Array | Uint16Array | Int32Array | BigInt64Array;

export const isHalf = (type: ElementType): type is HalfType => type in HALF;

/** ONNX's number for a type. */
export const onnxType = (type: ElementType): number => ELEMENT[type].onnx;

/** Bytes of one element. */
export const elementWidth = (type: ElementType): number => ELEMENT[type].bytes;

/** Number of elements of a tensor. @throws RangeError where that is no shape. */
export function elementCount(shape: readonly number[]): number {
  const count = shape.reduce((a, b) => a * b, 1);
  if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0) || !Number.isSafeInteger(count * 8)) {
    throw new RangeError(`[${shape}] is no tensor shape`);
  }
  return count;
}

/** Bytes of a tensor. @throws RangeError where that is no shape. */
export const elementBytes = (type: ElementType, shape: readonly number[]): number =>
  elementCount(shape) * ELEMENT[type].bytes;

export const bytesOf = ({ buffer, byteOffset, byteLength }: Elements): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** Elements of a type in memory that is there. */
export const elementsIn = (type: ElementType, memory: ArrayBuffer): Elements => new ELEMENT[type].array(memory);

/** Numbers as elements of a type. @throws RangeError for a number that is no integer among 64-bit ones. */
export function elementsOf(type: ElementType, values: ArrayLike<number>): Elements {
  if (isHalf(type)) return narrowed(type, values);
  if (type === "int64") return BigInt64Array.from(Array.from(values, BigInt));
  const { array } = ELEMENT[type];
  return values instanceof array ? values : array.from(values);
}

/** Puts numbers into elements of a type. @throws as `elementsOf`, and changes nothing. */
export function setElements(view: Elements, type: ElementType, values: ArrayLike<number>, offset: number): void {
  if (view instanceof BigInt64Array) view.set(Array.from(values, BigInt), offset);
  else view.set(isHalf(type) ? narrowed(type, values) : values, offset);
}

/** Sets elements [from, until) of a type to a number. @throws as `elementsOf`. */
export function fillElements(view: Elements, type: ElementType, value: number, from: number, until: number): void {
  if (view instanceof BigInt64Array) view.fill(BigInt(value), from, until);
  else view.fill(isHalf(type) ? narrowed(type, [value])[0]! : value, from, until);
}

/** 16-bit floats -> f32, in place (see `halfPrecisionBytes`). */
export const widen = (type: HalfType, out: Float32Array): void => HALF[type].widen(out);

function narrowed(type: HalfType, values: ArrayLike<number>): Uint16Array {
  const halves = new Uint16Array(values.length);
  HALF[type].narrow(values instanceof Float32Array ? values : Float32Array.from(values), halves);
  return halves;
}
