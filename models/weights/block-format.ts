import type { ActivationType, DeviceKind } from "../onnx/graph.js";

/**
 * How a matrix multiplication keeps its weights: as numbers of 32 or 16 bits, as integers of 8 bits with a scale for each
 * output, or in blocks of 8 or 4 bits. Blocks that a file has are kept as they are in both kinds of blocks: more bits would
 * not make them better, fewer would make them worse. With 16 bits activations are of the same type as the weights, else they
 * are float32.
 */
export const PRECISIONS = ["f32", "f16", "bf16", "int8", "q8-block", "q4"] as const;
export type Precision = (typeof PRECISIONS)[number];

/** What can be asked for: besides these, one that depends on the file ("auto"), and 8 bits in either form ("q8"). */
export const ASKED_PRECISIONS = ["auto", "f32", "f16", "bf16", "q8", "int8", "q8-block", "q4"] as const;
export type AskedPrecision = (typeof ASKED_PRECISIONS)[number];

/** What activations are computed in. */
export const activationsOf = (precision: Precision): ActivationType =>
  precision === "f16" ? "float16" : precision === "bf16" ? "bfloat16" : "float32";

/** Bytes of a number of activations. */
export const activationBytes = (type: ActivationType): number => (type === "float32" ? 4 : 2);

/** Whether matrices are kept in blocks. */
export const inBlocks = (precision: Precision): boolean => precision === "q8-block" || precision === "q4";

/** Whether matrices are rounded to 8 or 4 bits, and activations with them in each product. */
export const inFewBits = (precision: Precision): boolean => inBlocks(precision) || precision === "int8";

/**
 * A matrix in blocks along its rows, as MatMulNBits holds it: w = scale * (code - 2^(bits - 1)) + minimum. Minima enter
 * through a product of their own, with the sums of the activations of each block.
 */
export interface BlockFormat {
  readonly bits: 4 | 8;
  /** Weights that share a scale. */
  readonly size: 16 | 32 | 64;
  readonly minima: boolean;
}

/**
 * What this code makes of weights that are not in blocks, but see `plain8`. An integer product over whole rows
 * (`IntegerProducts`) takes other numbers than these, so that 4 bits stay in blocks however many rows there are: 16 rows take 1.8
 * times as long as in int8, and 64 rows 2.5 times, one row 0.6 times.
 */
export const PLAIN_8: BlockFormat = { bits: 8, size: 32, minima: false };
export const PLAIN_4: BlockFormat = { bits: 4, size: 32, minima: false };

/**
 * 8 bits for weights that are not in blocks, in rows of so many columns. On a CPU blocks are of 64 where they fill the rows: kernels
 * multiply by two scales for each. A step of SmolLM2-135M (an EPYC with AVX-512 VNNI, one thread) takes 12.6 ms in place of 14.1, one
 * of 16 rows 50 in place of 57, and its NLL is 0.21 % above that of f32 in place of 0.19 %. With blocks of 128 a row would take
 * 13 % less again, but have other bits among others: kernels for one row and for several add up in other orders.
 */
export const plain8 = (columns: number, device: DeviceKind): BlockFormat =>
  device === "cpu" && columns % 64 === 0 ? { ...PLAIN_8, size: 64 } : PLAIN_8;

/**
 * Block types of GGUF that MatMulNBits holds without changing a weight. Q4_K and Q5_K are eight blocks of 32 with a scale
 * and a minimum each, Q6_K sixteen of 16 with a scale.
 */
const HELD: Readonly<Record<string, BlockFormat>> = {
  Q4_0: PLAIN_4,
  Q4_1: { bits: 4, size: 32, minima: true },
  Q4_K: { bits: 4, size: 32, minima: true },
  Q5_0: PLAIN_8,
  Q5_1: { bits: 8, size: 32, minima: true },
  Q5_K: { bits: 8, size: 32, minima: true },
  Q6_K: { bits: 8, size: 16, minima: false },
  Q8_0: PLAIN_8,
};

/** The format that holds a type's blocks without changing a weight; null where none does, or `dtype` is no block type. */
export const heldFormat = (dtype: string): BlockFormat | null =>
  (Object.hasOwn(HELD, dtype) ? HELD[dtype] : undefined) ?? null;

/**
 * Why graphs in a precision cannot run on a device, with the remedy; null: they can. ONNX Runtime has no bf16 for CPUs.
 * @param bfloat16 whether a GPU computes in it
 */
export function precisionProblem(precision: AskedPrecision, device: DeviceKind, bfloat16 = true): string | null {
  if (precision === "int8" && device !== "cpu")
    return "int8 runs on a CPU only: add --device cpu, or take --precision q8-block";
  if (precision !== "bf16") return null;
  if (device === "cpu") return "bf16 runs on a GPU only: add --device cuda, or take --precision f32 or f16";
  return bfloat16 ? null : "bf16 needs a GPU of compute capability 8.0: take --precision f16 or f32";
}

/** What is known of a machine, on which depends what a model runs in there. */
export interface Machine {
  /** Left out: cpu. */
  readonly device?: DeviceKind | undefined;
  /** Whether that, being a GPU, computes in bfloat16; default: yes. */
  readonly bfloat16?: boolean | undefined;
  /** What 8 bits are there; left out: blocks. */
  readonly eightBits?: "int8" | "q8-block" | undefined;
}

/**
 * What a model with weights of these types runs in. "auto": the file's own blocks where it has some; on a GPU else the 16 bits
 * of most of its tensors; else f32. "q8": the machine's form of 8 bits, but blocks of 4 bits stay as they are.
 */
export function resolvePrecision(asked: AskedPrecision, dtypes: Iterable<string>, machine: Machine = {}): Precision {
  if (asked === "auto") return ownPrecision(dtypes, machine);
  if (asked !== "q8") return asked;
  // Of blocks of 4 bits integers of 8 would take twice the memory, and gain no accuracy.
  return ownPrecision(dtypes, machine) === "q4" ? "q8-block" : (machine.eightBits ?? "q8-block");
}

function ownPrecision(dtypes: Iterable<string>, { device = "cpu", bfloat16 = true }: Machine): Precision {
  const counts = new Map<string, number>();
  for (const dtype of dtypes) counts.set(dtype, (counts.get(dtype) ?? 0) + 1);
  const bits = new Set([...counts.keys()].map((dtype) => heldFormat(dtype)?.bits));
  if (bits.has(4)) return "q4";
  if (bits.has(8)) return "q8-block";
  if (device === "cpu") return "f32";
  // One buffer in 16 bits does not make a model of 16 bits.
  const [whole = 0, half = 0, brain = 0] = ["F32", "F16", "BF16"].map((dtype) => counts.get(dtype));
  if (whole >= half + brain) return "f32";
  if (brain < half) return "f16";
  return bfloat16 ? "bf16" : "f32";
}

/** Blocks of a row of so many weights; the last may not be full. */
export const blocksOf = (columns: number, { size }: BlockFormat): number => Math.ceil(columns / size);

/** Bytes of the codes of a block. */
export const codeBytes = ({ bits, size }: BlockFormat): number => (size * bits) / 8;

/** Rows of a matrix in a BlockFormat; `minima` is empty in formats without. */
export interface PackedRows {
  /** [rows, blocks, codeBytes]: 8 bits each, or 4, the first in the low half of a byte. */
  readonly codes: Uint8Array;
  /** [rows, blocks] */
  readonly scales: Float32Array;
  /** [rows, blocks] */
  readonly minima: Float32Array;
}

/** Writes the codes of a block, two to a byte where they have 4 bits. */
export function packCodes(codes: Uint8Array, { bits }: BlockFormat, target: Uint8Array, at: number): void {
  if (bits === 8) target.set(codes, at);
  else for (let j = 0; j < codes.length; j += 2) target[at + (j >> 1)] = codes[j]! | (codes[j + 1]! << 4);
}
