import * as z from "zod";
import { eventsOf } from "./with-server.js";

/** The wire format as a client sees it, stated once more and strictly: a field that appears or goes is noticed. */
const Logprobs = z.strictObject({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
  text_offset: z.array(z.number()),
});
const Reading = z.strictObject({
  sae: z.string(),
  l0: z.int(),
  z: z.number().nullable(),
  f: z.number().nullable(),
  eps_lbo: z.number().nullable(),
  mse: z.number().nullable(),
  top: z.array(z.tuple([z.int(), z.number()])),
});
const TokenFeatures = z.strictObject({ pos: z.int(), token_id: z.int(), saes: z.array(Reading) });
const Choice = z.strictObject({
  index: z.number(),
  text: z.string(),
  logprobs: Logprobs.nullable(),
  finish_reason: z.enum(["stop", "length"]).nullable(),
  stop_reason: z.union([z.string(), z.number()]).nullable(),
  prompt_token_ids: z.array(z.number()).optional(),
  token_ids: z.array(z.number()).optional(),
  features: z.array(TokenFeatures).optional(),
});
const Usage = z.strictObject({
  prompt_tokens: z.number(),
  completion_tokens: z.number(),
  total_tokens: z.number(),
  prompt_tokens_details: z.strictObject({ cached_tokens: z.int().min(0) }).nullable(),
});
export const WireCompletion = z.strictObject({
  id: z.string().startsWith("cmpl-"),
  object: z.literal("text_completion"),
  created: z.int(),
  model: z.string(),
  system_fingerprint: z.string().startsWith("b"),
  choices: z.array(Choice),
  usage: Usage.nullable().optional(),
});
export type WireCompletion = z.output<typeof WireCompletion>;
const ChatToken = z.strictObject({ token: z.string(), logprob: z.number(), bytes: z.array(z.int()) });
const ChatChoice = Choice.omit({ text: true }).extend({
  logprobs: z
    .strictObject({
      content: z.array(ChatToken.extend({ top_logprobs: z.array(ChatToken) }).strict()),
      refusal: z.null(),
    })
    .nullable(),
});
const ChatMessage = z.strictObject({ role: z.literal("assistant"), content: z.string(), refusal: z.null() });
export const WireChat = WireCompletion.extend({
  id: z.string().startsWith("chatcmpl-"),
  object: z.literal("chat.completion"),
  choices: z.array(ChatChoice.extend({ message: ChatMessage }).strict()),
  usage: Usage,
}).strict();
const Delta = z.strictObject({ role: z.literal("assistant").optional(), content: z.string().optional() });
export const WireChatChunk = WireChat.extend({
  object: z.literal("chat.completion.chunk"),
  choices: z.array(ChatChoice.extend({ delta: Delta }).strict()),
  usage: Usage.nullable().optional(),
}).strict();
export const WireTextFeatures = z.strictObject({
  object: z.literal("features"),
  model: z.string(),
  data: z.array(
    z.strictObject({ index: z.int(), tokens: z.array(TokenFeatures.extend({ text: z.string() }).strict()) }),
  ),
  usage: z.strictObject({ prompt_tokens: z.int(), total_tokens: z.int() }),
});
export const WireError = z.strictObject({
  error: z.strictObject({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  }),
});

export async function completionOf(response: Response): Promise<WireCompletion> {
  return WireCompletion.parse(await response.json());
}

export async function errorOf(response: Response) {
  return WireError.parse(await response.json()).error;
}

/** All chunks of a stream that ended well. */
export async function chunksOf(response: Response): Promise<WireCompletion[]> {
  const events = eventsOf(await response.text());
  if (events.pop() !== "[DONE]") throw new Error("the stream does not end with [DONE]");
  return events.map((event) => WireCompletion.parse(JSON.parse(event)));
}

/** What a client has who adds up the chunks of one choice. */
export function addUp(chunks: readonly WireCompletion[], index: number) {
  const parts = chunks.flatMap(({ choices }) => choices).filter((choice) => choice.index === index);
  const all = <T>(list: (choice: (typeof parts)[number]) => readonly T[] | undefined) =>
    parts.flatMap((part) => list(part) ?? []);
  return {
    text: parts.map(({ text }) => text).join(""),
    finishReasons: all(({ finish_reason }) => (finish_reason === null ? [] : [finish_reason])),
    tokenIds: all(({ token_ids }) => token_ids),
    features: all(({ features }) => features),
    promptTokenIds: all(({ prompt_token_ids }) => prompt_token_ids),
    logprobs: {
      tokens: all(({ logprobs }) => logprobs?.tokens),
      token_logprobs: all(({ logprobs }) => logprobs?.token_logprobs),
      top_logprobs: all(({ logprobs }) => logprobs?.top_logprobs),
      text_offset: all(({ logprobs }) => logprobs?.text_offset),
    },
  };
}
