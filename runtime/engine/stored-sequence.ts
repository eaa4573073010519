import { z } from "zod";
import type { AskedSequence, SequenceState } from "./sequence-state.js";

/** What the state of a sequence must look like where it comes from bytes. Whether it can run here, `admit` says. */

const count = z.int().min(0);
/** Log-probabilities are -Infinity where the model rules a token out. */
const logprob = z.union([z.number(), z.literal(Number.NEGATIVE_INFINITY)]);

/** Typed arrays are stored as their bytes. The copy begins at a multiple of four bytes, which the bytes need not. */
const int32s = z
  .instanceof(Uint8Array)
  .refine(({ length }) => length % Int32Array.BYTES_PER_ELEMENT === 0, "expected whole 32-bit integers")
  .transform((bytes) => new Int32Array(new Uint8Array(bytes).buffer));

/** Ids below `limit`. */
const idsBelow = (limit: number) =>
  int32s.refine((ids) => ids.every((id) => id >= 0 && id < limit), `expected integers from 0 to ${limit - 1}`);

const sampling = z.object({
  temperature: z.number(),
  topP: z.number(),
  topK: z.number(),
  minP: z.number(),
  repetitionPenalty: z.number(),
  presencePenalty: z.number(),
  frequencyPenalty: z.number(),
  logitBias: z.array(z.tuple([z.number(), z.number()])),
  allowedTokenIds: z.array(z.number()).optional(),
  badWords: z.array(z.array(z.number())).optional(),
  seed: z.number().optional(),
});

const features = z.object({
  saes: z.array(z.string()),
  top: z.number(),
  activation: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("native") }),
    z.object({ kind: z.literal("top-afa") }),
    z.object({ kind: z.literal("top-k"), k: z.number() }),
  ]),
  prompt: z.boolean(),
});

const edit = z.object({
  sae: z.string(),
  feature: z.number(),
  op: z.enum(["ablate", "add", "scale", "clamp"]),
  value: z.number(),
  from: z.enum(["kept", "pre"]),
});

const asked: z.ZodType<AskedSequence> = z.object({
  maxTokens: z.number().nullable(),
  minTokens: z.number(),
  ignoreEos: z.boolean(),
  stopTokenIds: z.array(z.number()),
  stop: z.array(z.string()),
  includeStop: z.boolean().optional(),
  specialText: z.boolean().optional(),
  sampling,
  logprobs: z.number().nullable(),
  promptLogprobs: z.number().nullable(),
  promptRanks: z.boolean().optional(),
  lambda: z.object({
    window: z.number().optional(),
    sinks: z.number().optional(),
    mode: z.enum(["lambda", "full"]).optional(),
  }),
  features: features.nullable(),
  edits: z.array(edit),
  editsFrom: z.enum(["prompt", "generation"]),
  cacheSalt: z.string().optional(),
});

const logprobs = z.object({
  logprob,
  top: z.array(z.object({ tokenId: count, logprob })),
  rank: count.optional(),
});

const held = z.object({
  token: z.object({
    type: z.literal("token"),
    index: count,
    seq: count,
    pos: count,
    tokenId: count,
    text: z.string(),
    logprobs: logprobs.nullable(),
    features: z.null(),
  }),
  end: z
    .object({
      type: z.literal("end"),
      index: count,
      finishReason: z.enum(["stop", "length"]),
      stopReason: z.union([z.string(), count]).nullable(),
      text: z.string(),
      promptTokens: count,
      completionTokens: count,
      cachedTokens: count,
    })
    .nullable(),
});

/** The state of a sequence over a vocabulary of this size. */
export const storedSequence = (vocabSize: number): z.ZodType<SequenceState> =>
  z
    .object({
      asked,
      promptLength: count.min(1),
      prompt: idsBelow(vocabSize),
      prefilled: count,
      cachedTokens: count,
      lastToken: count.max(vocabSize - 1),
      generated: count,
      held: held.nullable(),
      chooser: z.object({
        random: z.array(z.int32()).length(4),
        counted: idsBelow(2 * vocabSize).nullable(),
        recent: z.array(count),
      }),
      text: z.object({
        pending: z.array(count.max(255)),
        strip: count,
        opens: z.boolean(),
        spaced: z.boolean(),
      }),
      stops: z.object({ held: z.string(), matched: z.string().nullable() }),
    })
    .refine(
      ({ prompt, promptLength, prefilled }) => prompt.length > 0 && prefilled + prompt.length === promptLength,
      "the rest of the prompt is not as long as it says",
    )
    .refine(
      ({ generated, prompt }) => generated === 0 || prompt.length === 1,
      "a token is generated before the prompt is read",
    );
