import * as z from "zod";
import { FRESH, PASSES } from "./modes.js";

/** What was measured of a part in a bucket. */
export const BucketResult = z.object({
  part: z.enum([...PASSES, ...FRESH]),
  /** Number of the bucket. */
  bucket: z.int().min(0),
  /** Tokens that were measured, and the sum of their NLL (nat). */
  tokens: z.int().positive(),
  nll: z.number(),
  /** NLL at each of the bucket's sampled positions, in order; of a pass that ended before, fewer. */
  sampled: z.array(z.number()),
});
export type BucketResult = z.output<typeof BucketResult>;
