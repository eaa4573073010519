// Written by `npm run generate:client` from the schema of server/traces/schema.ts.

/**
 * Messages of the WebSocket /v1/traces: $defs/ServerFrame from the server, $defs/ClientMessage to it. The JSON form (subprotocol lambdatap.v1.json); in lambdatap.v1.msgpack idx and val are bin, all else is the same.
 */
export type LambdatapV1 = ServerFrame | ClientMessage;
export type ServerFrame = StartFrame | PromptFrame | TokenFrame | EndFrame | ErrorFrame;
export type ClientMessage = GenerateMessage | CancelMessage;

/**
 * One per choice, all of them before any other frame of the generation
 */
export interface StartFrame {
  type: "start";
  /**
   * Of the generation: the client's choice, on this socket
   */
  id: string;
  /**
   * Which choice: prompt * n + copy
   */
  index: number;
  model: string;
  prompt_tokens: number;
  /**
   * Ids of the SAEs that read its tokens
   */
  saes: string[];
  /**
   * Fields of the message that this server does not know
   */
  ignored_fields?: string[];
}
/**
 * A token of the prompt; only with features.prompt
 */
export interface PromptFrame {
  type: "prompt";
  /**
   * Of the generation: the client's choice, on this socket
   */
  id: string;
  /**
   * Which choice: prompt * n + copy
   */
  index: number;
  /**
   * Position in the whole text, prompt included
   */
  pos: number;
  token_id: number;
  text: string;
  /**
   * In the order of the start frame
   */
  saes: Reading[];
}
/**
 * What one SAE says of one token: of the residual before edits, at its hook
 */
export interface Reading {
  sae: string;
  /**
   * Features kept that are above 0; idx and val have the strongest of them
   */
  l0: number;
  /**
   * |normalised residual - b_dec|; null where it is not finite
   */
  z: number | null;
  /**
   * sqrt of the sum of kept (activation * |decoder row|)^2; null where it is not finite
   */
  f: number | null;
  /**
   * |z^2 - f^2| / ((d_sae - 1) f^2); null where f is 0, and of an SAE read in 8 bits where z^2 and f^2 differ by less than 5 % of f^2
   */
  eps_lbo: number | null;
  /**
   * Mean square of residual - reconstruction; null where it is not finite
   */
  mse: number | null;
  /**
   * Features, strongest first. In lambdatap.v1.msgpack: bin, little-endian u32
   */
  idx: number[];
  /**
   * Their activations. In lambdatap.v1.msgpack: bin, little-endian f32
   */
  val: (number | null)[];
}
export interface TokenFrame {
  type: "token";
  /**
   * Of the generation: the client's choice, on this socket
   */
  id: string;
  /**
   * Which choice: prompt * n + copy
   */
  index: number;
  /**
   * 0-based number of the generated token; none is left out
   */
  seq: number;
  /**
   * Position in the whole text, prompt included
   */
  pos: number;
  token_id: number;
  /**
   * Text released by this token: "" while a character or a stop string is undecided
   */
  text: string;
  /**
   * Of the raw logits; null where `logprobs: null` was asked
   */
  logprob: number | null;
  /**
   * In the order of the start frame
   */
  saes: Reading[];
}
/**
 * The last frame of a choice that did not fail
 */
export interface EndFrame {
  type: "end";
  /**
   * Of the generation: the client's choice, on this socket
   */
  id: string;
  /**
   * Which choice: prompt * n + copy
   */
  index: number;
  finish_reason: "stop" | "length" | "cancelled";
  /**
   * The stop string or stop token id that ended it
   */
  stop_reason: (string | number) | null;
  /**
   * What was still held back
   */
  text: string;
  usage: Usage;
}
/**
 * Of this choice
 */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /**
   * Prompt tokens that were computed for another prompt, which began alike; null where it was cancelled
   */
  prompt_tokens_details: {
    cached_tokens: number;
  } | null;
}
/**
 * The last frame of a choice that failed, or the answer to a refused message
 */
export interface ErrorFrame {
  type: "error";
  /**
   * null where the message had none
   */
  id: string | null;
  /**
   * The choice that failed; null: the message was refused
   */
  index: number | null;
  error: ErrorObject;
}
/**
 * As OpenAI has it
 */
export interface ErrorObject {
  message: string;
  type: string;
  /**
   * The field of the message that is wrong
   */
  param: string | null;
  code: string | null;
}
/**
 * The body of POST /v1/completions, with an id. `features` left out: all SAEs of the model, if it has any; `logprobs` left out: 0. Without meaning here: stream, stream_options, echo, return_token_ids, logprobs above 0
 */
export interface GenerateMessage {
  type: "generate";
  /**
   * Of the generation: the client's choice, on this socket
   */
  id: string;
  allowed_token_ids?: number[] | null;
  bad_words?: string[] | null;
  include_stop_str_in_output?: boolean | null;
  skip_special_tokens?: boolean | null;
  spaces_between_special_tokens?: boolean | null;
  prompt_logprobs?: null;
  model?: string | null;
  min_tokens?: number | null;
  n?: number | null;
  seed?: number | null;
  stop?: (string | string[]) | null;
  stop_token_ids?: number[] | null;
  ignore_eos?: boolean | null;
  stream?: boolean | null;
  stream_options?: {
    include_usage?: boolean | null;
    continuous_usage_stats?: boolean | null;
    include_obfuscation?: boolean | null;
  } | null;
  temperature?: number | null;
  top_p?: number | null;
  top_k?: number | null;
  min_p?: number | null;
  frequency_penalty?: number | null;
  presence_penalty?: number | null;
  repetition_penalty?: number | null;
  /**
   * By token id
   */
  logit_bias?: {
    [k: string]: number;
  } | null;
  lm_infinite?: {
    window?: number | null;
    sinks?: number | null;
    mode?: ("lambda" | "full") | null;
    retrieve?: {
      k?: number | null;
      from_layer?: number | null;
      distance?: number | null;
    } | null;
  } | null;
  return_token_ids?: boolean | null;
  user?: string | null;
  features?: {
    saes?: string[] | null;
    top?: number | null;
    activation?:
      | (
          | ("native" | "top-afa")
          | {
              top_k: number;
            }
        )
      | null;
    prompt?: boolean | null;
  } | null;
  edits?:
    | {
        sae: string;
        feature: number;
        op: "add" | "scale" | "clamp" | "ablate";
        value?: number | null;
        /**
         * What scale, clamp and ablate start from: the activation after the SAE's own cut, so 0 where the feature is not kept; or before it. Default: kept
         */
        from?: ("kept" | "pre") | null;
      }[]
    | null;
  edits_from?: ("prompt" | "generation") | null;
  cache_salt?: string | null;
  /**
   * Text, token ids, or several of either
   */
  prompt?: (string | number[] | (string | number[])[]) | null;
  max_tokens?: number | null;
  echo?: boolean | null;
  logprobs?: number | null;
  add_special_tokens?: boolean | null;
}
/**
 * Every open choice of the generation ends as cancelled
 */
export interface CancelMessage {
  type: "cancel";
  /**
   * Of the generation: the client's choice, on this socket
   */
  id: string;
}
