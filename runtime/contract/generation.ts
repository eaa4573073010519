import type { Conversation } from "../../models/chat/chat-template.js";
import type { HookName } from "../../models/hooks.js";
import type { KvChoice } from "../../models/keys-values/kv-choice.js";
import type { TextFrame } from "../../models/tokenizer/text-frame.js";
import type { Precision } from "../../models/weights/block-format.js";
import type { FeatureDescription, FeatureEdit, FeatureRequest, SaeCard, SaeReading } from "./features.js";

/**
 * The contract between the engine and whoever serves it. Everything here is plain data (structured-cloneable), because
 * the engine lives on its own thread: a request goes in, events come out.
 */

/** How a token is chosen from the logits. Ids of `logitBias` and `stopTokenIds` are vocabulary ids. */
export interface SamplingParams {
  /** 0 is greedy. */
  readonly temperature: number;
  /** Keep the smallest set of tokens whose probability reaches this; 1 keeps all. */
  readonly topP: number;
  /** Keep this many tokens; 0 keeps all. */
  readonly topK: number;
  /** Drop tokens below this share of the most likely token's probability; 0 keeps all. */
  readonly minP: number;
  /** Divides positive and multiplies negative logits of tokens seen in prompt or output (last W); 1 is off. Keskar et al. 2019. */
  readonly repetitionPenalty: number;
  /** Subtracted once from tokens that the output has (last W). */
  readonly presencePenalty: number;
  /** Subtracted per occurrence in the output (last W). */
  readonly frequencyPenalty: number;
  /** [token id, bias] added to the logits before sampling. */
  readonly logitBias: readonly (readonly [number, number])[];
  /** No other token may be drawn; left out: any. */
  readonly allowedTokenIds?: readonly number[] | undefined;
  /** Sequences of token ids that the output must not have; left out: none. */
  readonly badWords?: readonly (readonly number[])[] | undefined;
  /** Same seed, same request, same build: same text. Left out: drawn from the system. */
  readonly seed?: number | undefined;
}

/** Middle retrieval (LM-Infinite, arXiv 2308.16137, section 3.3). The authors have k 5 and half the window as distance. */
export interface RetrieveOptions {
  /** Evicted keys that each query head finds by score; default 20. */
  readonly k?: number | undefined;
  /** First layer that retrieves, from 0; default: an eighth of the layers. */
  readonly fromLayer?: number | undefined;
  /** Distance at which retrieved keys stand, where positions rotate; default: an eighth of the window, at least 16. */
  readonly distance?: number | undefined;
}

/** Which keys a sequence sees (LM-Infinite, arXiv 2308.16137). Left-out fields take the server's values. */
export interface LambdaOptions {
  /** At most the server's window. */
  readonly window?: number | undefined;
  /** The server's number of starting tokens, or 0. */
  readonly sinks?: number | undefined;
  /** `full`: ordinary attention over everything so far; memory grows with the text. */
  readonly mode?: "lambda" | "full" | undefined;
  /** The last token of the prompt and all generated ones also see the best of the keys that have left the window; memory grows with the text. */
  readonly retrieve?: RetrieveOptions | undefined;
}

/** One sequence to generate. */
export interface SequenceRequest {
  /** Prompt token ids, the beginning-of-text token included; at least one. */
  readonly prompt: Int32Array<ArrayBuffer>;
  /** Tokens to generate at most; 0 only evaluates the prompt; null: until a stop. */
  readonly maxTokens: number | null;
  /** No stop token and no stop string ends the text before this many tokens. */
  readonly minTokens: number;
  /** The model's own end tokens do not end the text. */
  readonly ignoreEos: boolean;
  readonly stopTokenIds: readonly number[];
  readonly stop: readonly string[];
  /** The stop string, stop token or end token that ends the text is part of it; left out: it is not. */
  readonly includeStop?: boolean | undefined;
  /** Special tokens have text; left out: they have none. */
  readonly specialText?: boolean | undefined;
  readonly sampling: SamplingParams;
  /** Alternatives per generated token (0: only the token's own); null: none at all. Of the raw logits. */
  readonly logprobs: number | null;
  /** The same for every prompt token but the first. */
  readonly promptLogprobs: number | null;
  /** Prompt tokens are told their rank; left out: they are not. */
  readonly promptRanks?: boolean | undefined;
  readonly lambda: LambdaOptions;
  /** null: no token is read. */
  readonly features: FeatureRequest | null;
  readonly edits: readonly FeatureEdit[];
  /** Where edits begin: at the first token, or at the last of the prompt, whose pass gives the first generated token. */
  readonly editsFrom: "prompt" | "generation";
  /** What was computed of a prompt serves prompts with the same salt, or none likewise. */
  readonly cacheSalt?: string | undefined;
}

/** A token's log-probability under the raw logits, and the most likely alternatives, best first. */
export interface TokenLogprobs {
  readonly logprob: number;
  readonly top: readonly { readonly tokenId: number; readonly logprob: number }[];
  /** Its place among all tokens, 1 the likeliest, of equals the lower id first. Only if asked for. */
  readonly rank?: number;
}

/** What a request emits; `index` is the sequence's place in the request. Per sequence: prompt* mixed with features*, token*, then end or error. */
export type GenerationEvent =
  /** Log-probabilities of the prompt tokens [start, start + logprobs.length); the entry of position 0 is null. Only if asked for. */
  | {
      readonly type: "prompt";
      readonly index: number;
      readonly start: number;
      readonly logprobs: readonly (TokenLogprobs | null)[];
    }
  /** Readings of the prompt tokens [start, start + readings.length), each by the asked SAEs. Only if asked for. */
  | {
      readonly type: "features";
      readonly index: number;
      readonly start: number;
      readonly readings: readonly (readonly SaeReading[])[];
    }
  | {
      readonly type: "token";
      readonly index: number;
      /** 0-based number of the generated token. */
      readonly seq: number;
      /** Position in the whole text. */
      readonly pos: number;
      readonly tokenId: number;
      /** Text released by this token: "" while a character or a possible stop string is undecided, more than one token's text when it is decided. */
      readonly text: string;
      readonly logprobs: TokenLogprobs | null;
      /** By the asked SAEs; null if none were. They need a pass over the token: the event comes one step later. */
      readonly features: readonly SaeReading[] | null;
    }
  | {
      readonly type: "end";
      readonly index: number;
      readonly finishReason: "stop" | "length";
      /** The stop string or stop token id that ended it; null for an end token of the model or the length. */
      readonly stopReason: string | number | null;
      /** What was still held back and is now released (nothing of a matched stop string). */
      readonly text: string;
      readonly promptTokens: number;
      readonly completionTokens: number;
      /** Prompt tokens that were not computed for this request: another prompt began alike. */
      readonly cachedTokens: number;
    }
  /** This sequence failed (not-a-number logits, stalled reader, memory); the others go on. */
  | { readonly type: "error"; readonly index: number; readonly error: GenerationFault };

/** Why a sequence failed, in a form that crosses threads. */
export interface GenerationFault {
  readonly kind: "not_finite" | "no_token_left" | "stalled" | "out_of_memory" | "internal" | "shutting_down";
  readonly message: string;
}

/** What a loaded model is, for GET /v1/models and for checking requests. */
export interface ModelCard {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly architecture: string;
  readonly vocabSize: number;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly trainedLength: number;
  /** Tokens that no text can be longer than, for models with learned positions; null: no limit. */
  readonly longest: number | null;
  readonly window: number;
  readonly sinks: number;
  /** Sequences that run at once; the others wait, and take turns with them. */
  readonly parallel: number;
  /** Tokens whose keys may be kept for `retrieve`, of all texts together; null: this model cannot retrieve. */
  readonly archiveTokens: number | null;
  readonly precision: Precision;
  /** What keys and values are kept in. */
  readonly kv: Exclude<KvChoice, "auto">;
  /** Threads of the computation. */
  readonly threads: number;
  /** Where it runs: "cpu", "cuda:0". */
  readonly device: string;
  /** What the GPU calls itself; "" for the CPU. */
  readonly hardware: string;
  readonly bosTokenId: number | null;
  /** Ids of the special tokens that the tokenizer puts around every text. */
  readonly frame: TextFrame;
  readonly eosTokenIds: readonly number[];
  readonly hasTokenizer: boolean;
  /** Whether conversations can be made prompts. */
  readonly hasChatTemplate: boolean;
  /** Defaults from generation_config.json. */
  readonly sampling: Partial<Pick<SamplingParams, "temperature" | "topP" | "topK" | "minP" | "repetitionPenalty">>;
  /** Tokens of an answer where nobody says how long it may be, by the same file; null: it does not say. */
  readonly maxNewTokens: number | null;
  /** Places that can be tapped. */
  readonly hooks: readonly HookName[];
  /** Attached SAEs; ids are unique. */
  readonly saes: readonly SaeCard[];
}

/** A conversation as the model reads it. */
export interface ChatPrompt {
  /** Nothing is put in front: the template has the beginning-of-text token where it wants one. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** Tokens that end an assistant's turn in this template, which the model's own end tokens may lack. */
  readonly turnEndIds: readonly number[];
}

export interface EngineCounts {
  /** Bytes of keys and values that are kept for prompts that begin alike. */
  readonly prefixBytes: number;
  /** Keys and values of all texts so far whose codes stand at an end of their range: these may have been beyond it. */
  readonly saturated: number;
}

/** A loaded model that generates. Implemented by `LocalEngine`; the server knows only this. */
export interface Engine {
  readonly card: ModelCard;
  /**
   * Token ids of a text, without special tokens added; never blocks the calling thread for long.
   * @param at the field of the request that holds it; left out: prompt
   * @throws InvalidRequest naming the field, where the model has no tokenizer or the text no ids that the model knows.
   */
  encode(text: string, at?: string): Promise<Int32Array<ArrayBuffer>>;
  /**
   * A conversation through the model's chat template. Control tokens in the messages' content are control tokens here, too.
   * @throws InvalidRequest (`messages`) where the model has no template or the template refuses the conversation;
   * ChatTemplateUnsupported or ChatTemplateFailed where the template is broken; the signal's reason when it aborts before.
   */
  chatPrompt(conversation: Conversation, signal: AbortSignal): Promise<ChatPrompt>;
  /** Text of each id on its own ("token_id:N" without a tokenizer, "bytes:\\x.." where it is no whole character). */
  tokenTexts(ids: ArrayLike<number>): string[];
  /** Text of all ids together, special tokens left out unless they are asked for. */
  decode(ids: ArrayLike<number>, special?: "skip" | "keep"): string;
  /**
   * Starts all sequences of one request and yields their events as they come. Aborting the signal, or leaving the loop,
   * stops them within one token or one prefill chunk. A slow consumer pauses its own sequences only.
   * @throws InvalidRequest (field named) when a sequence cannot run on this model; QueueFull when there is no room for it, or
   * for what it archives.
   */
  generate(sequences: readonly SequenceRequest[], signal: AbortSignal): AsyncIterable<GenerationEvent>;
  /**
   * One feature of an attached SAE, with `top` tokens and neighbours.
   * @throws InvalidRequest for an SAE or a feature that is not there.
   */
  describeFeature(sae: string, feature: number, top: number): Promise<FeatureDescription>;
  /** Why nothing can be generated any more, a sentence; null: it can. */
  readonly failure: string | null;
  /** Sequences running and waiting. */
  load(): { running: number; waiting: number };
  readonly counts: EngineCounts;
  /** Stops taking requests; resolves when the last one has ended. */
  drain(): Promise<void>;
  /** Ends everything now; running requests end with ShuttingDown. */
  close(): Promise<void>;
}
