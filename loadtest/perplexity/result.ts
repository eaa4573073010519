import * as z from "zod";
import { FRESH, type Fresh, PASSES, type Pass } from "./modes.js";

/** NLL (nat) of all tokens of a bucket that a pass has read: float32, little-endian, base64. */
const PassResult = z.strictObject({ part: z.enum(PASSES), bucket: z.int().min(0), nll: z.base64() });
/** NLL (nat) at sampled positions of a bucket, from its `first`th on. */
const SampleResult = z.strictObject({
  part: z.enum(FRESH),
  bucket: z.int().min(0),
  first: z.int().min(0),
  nll: z.array(z.number()).min(1),
});
/** A line of the journal. */
export const Result = z.union([PassResult, SampleResult]);
export type Result = z.output<typeof Result>;

export const passResult = (part: Pass, bucket: number, nll: readonly number[]): Result => {
  const bytes = Buffer.alloc(nll.length * Float32Array.BYTES_PER_ELEMENT);
  for (const [i, value] of nll.entries()) bytes.writeFloatLE(value, i * Float32Array.BYTES_PER_ELEMENT);
  return { part, bucket, nll: bytes.toString("base64") };
};

/** NLL that a pass found in a bucket, in order; undefined where it was not there. */
export function passNll(results: readonly Result[], part: Pass, bucket: number): Float64Array | undefined {
  for (const result of results) {
    if (result.part !== part || result.bucket !== bucket || typeof result.nll !== "string") continue;
    const bytes = Buffer.from(result.nll, "base64");
    const length = Math.floor(bytes.length / Float32Array.BYTES_PER_ELEMENT);
    return Float64Array.from({ length }, (_, i) => bytes.readFloatLE(i * Float32Array.BYTES_PER_ELEMENT));
  }
  return undefined;
}

/** NLL at the sampled positions of a bucket, in the order in which these are taken. */
export function sampledNll(results: readonly Result[], part: Fresh, bucket: number): number[] {
  const nll: number[] = [];
  for (const result of results)
    if (result.part === part && result.bucket === bucket && result.first === nll.length) nll.push(...result.nll);
  return nll;
}
