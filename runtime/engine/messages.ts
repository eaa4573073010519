import type { KvChoice } from "../../models/keys-values/kv-choice.js";
import type { TokenBytesData } from "../../models/tokenizer/token-bytes.js";
import type { AskedPrecision } from "../../models/weights/block-format.js";
import type { DeviceChoice } from "../contract/device-choice.js";
import type { FeatureDescription } from "../contract/features.js";
import type { EngineCounts, ModelCard, SequenceRequest } from "../contract/generation.js";
import type { SaeChoice } from "../saes/attached-saes.js";
import type { Outbox } from "./requests.js";
import type { Fault } from "./thread-fault.js";

/** What the engine's thread is started with. */
export interface EngineThreadOptions {
  readonly path: string;
  readonly id: string;
  readonly precision: AskedPrecision;
  readonly kv: KvChoice;
  readonly cacheRoot: string;
  readonly window: number | undefined;
  readonly sinks: number | undefined;
  /** Left out: chosen for the model and the machine. */
  readonly threads: number | undefined;
  readonly spin: boolean;
  readonly device: DeviceChoice;
  /** ONNX Runtime's library built for CUDA, or its folder, that the user chose. */
  readonly ortLibrary: string | undefined;
  /** Whether a GPU records decode steps and replays them. */
  readonly cudaGraphs: boolean;
  /** Left out: as many sequences at once as are worth it. */
  readonly parallel: number | undefined;
  readonly stallTimeoutMs: number;
  /** Memory that archives may take, bytes. */
  readonly archiveBytes: number;
  /** Memory for prompts that begin alike, bytes; left out: on a CPU a share of what is left. */
  readonly prefixBytes: number | undefined;
  /** Models that share the machine. */
  readonly models: number;
  readonly saes: SaeChoice;
  readonly hasChatTemplate: boolean;
}

/** To the engine's thread. */
export type EngineCommand =
  /** The first message: what the tokens of this model stand for. `close` in its place: the model cannot be served. */
  | {
      readonly type: "tokenizer";
      readonly tokens: TokenBytesData | null;
      /** Ids of the calibration text; null where the tokenizer gives none. */
      readonly calibration: Int32Array | null;
    }
  /** Sequences that the model can run. Those with one prompt in memory have one on the other thread, too. */
  | { readonly type: "submit"; readonly request: number; readonly sequences: readonly SequenceRequest[] }
  | { readonly type: "cancel"; readonly request: number }
  /** The reader has taken events of this much credit. */
  | { readonly type: "acknowledge"; readonly request: number; readonly credit: number }
  | {
      readonly type: "describe";
      readonly request: number;
      readonly sae: string;
      readonly feature: number;
      readonly top: number;
    }
  | { readonly type: "close" };

/** From the engine's thread. */
export type EngineReport =
  /** A compilation's share done, 0 to 1. */
  | { readonly type: "progress"; readonly share: number }
  /** A line for the log. */
  | { readonly type: "notice"; readonly line: string }
  | { readonly type: "ready"; readonly card: ModelCard; readonly fullLength: number }
  | { readonly type: "failed"; readonly fault: Fault }
  /** Nothing can be computed any more. */
  | { readonly type: "lost"; readonly message: string }
  /** The answer to "describe". */
  | { readonly type: "description"; readonly request: number; readonly description: FeatureDescription }
  | { readonly type: "not-described"; readonly request: number; readonly fault: Fault }
  /** What a step has brought for the requests it served. */
  | { readonly type: "events"; readonly outbox: Outbox; readonly counts: EngineCounts };
