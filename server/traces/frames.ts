import * as z from "zod";
import { CompletionRequest } from "../openai/request/completion-request.js";
import { Edits } from "../openai/request/edits.js";
import { FeatureFields } from "../openai/request/feature-request.js";

/**
 * Every message of a trace socket, both ways. The server's types, the published schema (schema.ts) and, from
 * that, the client's types are made of these.
 */

const id = z.string().min(1).max(128).describe("Of the generation: the client's choice, on this socket");
const index = z.int().min(0).describe("Which choice: prompt * n + copy");
const choice = { id, index };
const pos = z.int().min(0).describe("Position in the whole text, prompt included");
const tokenId = z.int().min(0);
const scalar = (meaning: string) => z.number().nullable().describe(`${meaning}; null where it is not finite`);

/** An array of numbers in JSON; in MessagePack the bytes of it. In the server it is a typed array, whatever the form. */
const numbers = <A>(array: z.ZodType<A>, items: object, description: string) =>
  array.meta({ type: "array", items, description });

export const ReadingFrame = z
  .strictObject({
    sae: z.string(),
    l0: z.int().min(0).describe("Features kept that are above 0; idx and val have the strongest of them"),
    z: scalar("|normalised residual - b_dec|"),
    f: scalar("sqrt of the sum of kept (activation * |decoder row|)^2"),
    eps_lbo: scalar("|z^2 - f^2| / ((d_sae - 1) f^2)").describe(
      "|z^2 - f^2| / ((d_sae - 1) f^2); null where f is 0, and of an SAE read in 8 bits where z^2 and f^2 differ by less than 5 % of f^2",
    ),
    mse: scalar("Mean square of residual - reconstruction"),
    idx: numbers(
      z.custom<Uint32Array>((value) => value instanceof Uint32Array),
      { type: "integer", minimum: 0, maximum: 2 ** 32 - 1 },
      "Features, strongest first. In lambdatap.v1.msgpack: bin, little-endian u32",
    ),
    val: numbers(
      z.custom<Float32Array>((value) => value instanceof Float32Array),
      { type: ["number", "null"] },
      "Their activations. In lambdatap.v1.msgpack: bin, little-endian f32",
    ),
  })
  .meta({ id: "Reading", description: "What one SAE says of one token: of the residual before edits, at its hook" });

const saes = z.array(ReadingFrame).describe("In the order of the start frame");

export const Usage = z
  .strictObject({
    prompt_tokens: z.int().min(0),
    completion_tokens: z.int().min(0),
    total_tokens: z.int().min(0),
    prompt_tokens_details: z
      .strictObject({ cached_tokens: z.int().min(0) })
      .nullable()
      .describe("Prompt tokens that were computed for another prompt, which began alike; null where it was cancelled"),
  })
  .meta({ id: "Usage", description: "Of this choice" });

export const ErrorObject = z
  .strictObject({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable().describe("The field of the message that is wrong"),
    code: z.string().nullable(),
  })
  .meta({ id: "ErrorObject", description: "As OpenAI has it" });

export const StartFrame = z
  .strictObject({
    type: z.literal("start"),
    ...choice,
    model: z.string(),
    prompt_tokens: z.int().min(0),
    saes: z.array(z.string()).describe("Ids of the SAEs that read its tokens"),
    ignored_fields: z.array(z.string()).optional().describe("Fields of the message that this server does not know"),
  })
  .meta({ id: "StartFrame", description: "One per choice, all of them before any other frame of the generation" });

export const PromptFrame = z
  .strictObject({ type: z.literal("prompt"), ...choice, pos, token_id: tokenId, text: z.string(), saes })
  .meta({ id: "PromptFrame", description: "A token of the prompt; only with features.prompt" });

export const TokenFrame = z
  .strictObject({
    type: z.literal("token"),
    ...choice,
    seq: z.int().min(0).describe("0-based number of the generated token; none is left out"),
    pos,
    token_id: tokenId,
    text: z.string().describe('Text released by this token: "" while a character or a stop string is undecided'),
    logprob: z.number().nullable().describe("Of the raw logits; null where `logprobs: null` was asked"),
    saes,
  })
  .meta({ id: "TokenFrame" });

export const EndFrame = z
  .strictObject({
    type: z.literal("end"),
    ...choice,
    finish_reason: z.enum(["stop", "length", "cancelled"]),
    stop_reason: z.union([z.string(), z.int()]).nullable().describe("The stop string or stop token id that ended it"),
    text: z.string().describe("What was still held back"),
    usage: Usage,
  })
  .meta({ id: "EndFrame", description: "The last frame of a choice that did not fail" });

export const ErrorFrame = z
  .strictObject({
    type: z.literal("error"),
    id: id.nullable().describe("null where the message had none"),
    index: index.nullable().describe("The choice that failed; null: the message was refused"),
    error: ErrorObject,
  })
  .meta({
    id: "ErrorFrame",
    description: "The last frame of a choice that failed, or the answer to a refused message",
  });

export const ServerFrame = z
  .discriminatedUnion("type", [StartFrame, PromptFrame, TokenFrame, EndFrame, ErrorFrame])
  .meta({ id: "ServerFrame" });
export type ServerFrame = z.output<typeof ServerFrame>;

export const WithId = z.looseObject({ id });
/** What every message has; the rest is read by what it is. */
export const Message = WithId.extend({ type: z.enum(["generate", "cancel"]) });

const ids = z.array(tokenId);
/** For the published schema: what is sent is read by parseCompletionRequest, some of whose fields zod cannot publish. */
export const GenerateMessage = z
  .object({
    type: z.literal("generate"),
    id,
    ...CompletionRequest.shape,
    prompt: z
      .union([z.string(), ids, z.array(z.union([z.string(), ids]))])
      .nullish()
      .describe("Text, token ids, or several of either"),
    logprobs: CompletionRequest.shape.logprobs.unwrap().optional(),
    allowed_token_ids: ids.min(1).nullish(),
    prompt_logprobs: z.null().optional(),
    logit_bias: z.record(z.string(), z.number().min(-100).max(100)).nullish().describe("By token id"),
    features: FeatureFields.extend({ saes: z.array(z.string()).min(1).nullish() }).nullish(),
    edits: Edits.nullish(),
  })
  .meta({
    id: "GenerateMessage",
    description:
      "The body of POST /v1/completions, with an id. `features` left out: all SAEs of the model, if it has any; " +
      "`logprobs` left out: 0. Without meaning here: stream, stream_options, echo, return_token_ids, logprobs above 0",
  });

export const CancelMessage = z
  .object({ type: z.literal("cancel"), id })
  .meta({ id: "CancelMessage", description: "Every open choice of the generation ends as cancelled" });

export const ClientMessage = z
  .discriminatedUnion("type", [GenerateMessage, CancelMessage])
  .meta({ id: "ClientMessage" });
