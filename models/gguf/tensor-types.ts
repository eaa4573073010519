/** How a tensor's elements are stored: in blocks of `elements` numbers that take `bytes` bytes. Blocks lie along rows. */
export interface TensorType {
  readonly name: string;
  readonly elements: number;
  readonly bytes: number;
}

export const FLOAT32: TensorType = { name: "F32", elements: 1, bytes: 4 };

const SINGLE: readonly (readonly [id: number, name: string, bytes: number])[] = [
  [0, "F32", 4],
  [1, "F16", 2],
  [24, "I8", 1],
  [25, "I16", 2],
  [26, "I32", 4],
  [27, "I64", 8],
  [28, "F64", 8],
  [30, "BF16", 2],
];
const BLOCKS: readonly (readonly [id: number, name: string, elements: number, bytes: number])[] = [
  [2, "Q4_0", 32, 18],
  [3, "Q4_1", 32, 20],
  [6, "Q5_0", 32, 22],
  [7, "Q5_1", 32, 24],
  [8, "Q8_0", 32, 34],
  [9, "Q8_1", 32, 36],
  [10, "Q2_K", 256, 84],
  [11, "Q3_K", 256, 110],
  [12, "Q4_K", 256, 144],
  [13, "Q5_K", 256, 176],
  [14, "Q6_K", 256, 210],
  [15, "Q8_K", 256, 292],
  [16, "IQ2_XXS", 256, 66],
  [17, "IQ2_XS", 256, 74],
  [18, "IQ3_XXS", 256, 98],
  [19, "IQ1_S", 256, 50],
  [20, "IQ4_NL", 32, 18],
  [21, "IQ3_S", 256, 110],
  [22, "IQ2_S", 256, 82],
  [23, "IQ4_XS", 256, 136],
  [29, "IQ1_M", 256, 56],
  [34, "TQ1_0", 256, 54],
  [35, "TQ2_0", 256, 66],
  [39, "MXFP4", 32, 17],
  [40, "NVFP4", 64, 36],
  [41, "Q1_0", 128, 18],
];

/** Every type that files have, by its number in the format (ggml.h, enum ggml_type). */
export const TENSOR_TYPES: ReadonlyMap<number, TensorType> = new Map([
  ...SINGLE.map(([id, name, bytes]) => [id, { name, elements: 1, bytes }] as const),
  ...BLOCKS.map(([id, name, elements, bytes]) => [id, { name, elements, bytes }] as const),
]);

/** Types that were in the format once; nothing writes them any more. */
export const REMOVED_TYPES: ReadonlyMap<number, string> = new Map([
  [4, "Q4_2"],
  [5, "Q4_3"],
  [31, "Q4_0_4_4"],
  [32, "Q4_0_4_8"],
  [33, "Q4_0_8_8"],
  [36, "IQ4_NL_4_4"],
  [37, "IQ4_NL_4_8"],
  [38, "IQ4_NL_8_8"],
]);
