/** Tensors as a safetensors file, all of one type. Source: github.com/huggingface/safetensors, README, "Format". */
export function safetensorsFile(
  tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly bytes: Uint8Array }>,
  dtype: "F32" | "F16",
): Uint8Array {
  const header: Record<string, unknown> = {};
  let at = 0;
  for (const [name, { shape, bytes }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.alloc(Math.ceil(text.length / 8) * 8, " ");
  text.copy(padded);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded, ...Array.from(tensors.values(), ({ bytes }) => bytes)]);
}

/** The bytes of float32 values. */
export const float32Bytes = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
