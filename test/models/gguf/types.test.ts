import { describe, expect, it } from "vitest";
import { ModelFormatError } from "../../../models/errors.js";
import { DECODERS, finiteBlocks } from "../../../models/gguf/decoders.js";
import { readGgufHeader } from "../../../models/gguf/gguf-header.js";
import { openTensorData, type TensorData } from "../../../models/gguf/tensor-data.js";
import type { TensorInfo } from "../../../models/gguf/tensor-infos.js";
import { thrownBy } from "../weights/write-safetensors.js";
import { expectedOf, goldenGguf } from "./golden-gguf.js";

/** Every tensor of a file with its data. */
function open(name: string) {
  const header = readGgufHeader(goldenGguf(name));
  return { header, data: openTensorData(header) };
}

const info = ({ header }: ReturnType<typeof open>, name: string): TensorInfo => {
  const found = header.tensors.get(name);
  if (!found) throw new Error(`no tensor ${name}`);
  return found;
};

function decoded(data: TensorData, name: string, tensor: TensorInfo, start: number, count: number): Float32Array {
  const out = new Float32Array(count);
  data.decode(name, tensor, start, out);
  return out;
}

/** Number of elements that differ; 0 equals -0. */
const differing = (a: Float32Array, b: Float32Array): number =>
  a.length === b.length ? a.reduce((sum, value, i) => sum + (value === b[i] ? 0 : 1), 0) : Number.POSITIVE_INFINITY;

const TYPES = "f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl".split(" ");

describe("numbers of every type, to the last bit", () => {
  it.each([...TYPES.map((type) => ["types", type] as const), ["types-other", "iq4_xs"] as const])(
    "%s: %s",
    (file, type) => {
      const opened = open(`${file}.gguf`);
      using want = expectedOf(file);
      const tensor = info(opened, type);
      const values = want.values(type);
      expect(tensor.shape).toEqual(want.shape(type));
      expect(tensor.type.name).toBe(type.toUpperCase());
      expect(differing(decoded(opened.data, type, tensor, 0, values.length), values)).toBe(0);
      opened.data.close();
    },
  );

  it.each(TYPES)("any range, however it cuts blocks: %s", (type) => {
    const opened = open("types.gguf");
    using want = expectedOf("types");
    const values = want.values(type);
    const tensor = info(opened, type);
    for (const start of [0, 1, 31, 32, 33, 255, 256, 300, 511, 512, 1025])
      for (const count of [0, 1, 2, 30, 32, 33, 64, 223, 256, 257, 600]) {
        const found = decoded(opened.data, type, tensor, start, count);
        expect(differing(found, values.subarray(start, start + count)), `${start}, ${count}`).toBe(0);
      }
    opened.data.close();
  });
});

describe("types that weights cannot have", () => {
  const opened = open("types-other.gguf");
  it.each([...opened.header.tensors.keys()].filter((name) => name !== "iq4_xs"))(
    "are refused by name when asked for, the rest of the file is read: %s",
    (name) => {
      const error = thrownBy(() => decoded(opened.data, name, info(opened, name), 0, 1));
      expect(error).toBeInstanceOf(ModelFormatError);
      expect(String(error)).toContain(`tensor "${name}" is stored as ${name.toUpperCase()}`);
    },
  );
});

describe("NaN and infinite scales of blocks", () => {
  it.each([...DECODERS].filter(([, { halves }]) => halves.length > 0))(
    "are seen in stored bytes: %s",
    (type, decoder) => {
      const opened = open(type === "IQ4_XS" ? "types-other.gguf" : "types.gguf");
      const tensor = info(opened, type.toLowerCase());
      const stored = new Uint8Array(tensor.byteLength);
      opened.data.read(tensor, 0, stored);
      expect(finiteBlocks(decoder, tensor.type.bytes, stored)).toBe(true);
      for (const half of decoder.halves)
        for (const high of [0x7c, 0xfe]) {
          const broken = stored.slice();
          broken[half + 1 + tensor.type.bytes] = high;
          expect(finiteBlocks(decoder, tensor.type.bytes, broken)).toBe(false);
          const values = new Float32Array(2 * tensor.type.elements);
          decoder.decode(broken, 0, 2, values, 0);
          expect(values.subarray(tensor.type.elements).some((value) => !Number.isFinite(value))).toBe(true);
        }
      opened.data.close();
    },
  );
});
