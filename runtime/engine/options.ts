import { basename, resolve } from "node:path";
import { cacheRoot } from "../../models/cache/compile-cache.js";
import type { KvChoice } from "../../models/keys-values/kv-choice.js";
import type { AskedPrecision } from "../../models/weights/block-format.js";
import type { DeviceChoice } from "../contract/device-choice.js";
import type { EngineThreadOptions } from "./messages.js";

export interface LocalEngineOptions {
  /** Path of the model. */
  readonly model: string;
  /** Name in the API; default: the folder's. */
  readonly id?: string | undefined;
  readonly window?: number | undefined;
  readonly sinks?: number | undefined;
  readonly threads?: number | undefined;
  /** Whether threads spin between operators: quicker, but a busy neighbour on the same cores costs more. */
  readonly spin?: boolean | undefined;
  /** Left out: the CPU. */
  readonly device?: DeviceChoice | undefined;
  /** ONNX Runtime's library built for CUDA, or its folder; left out: found. */
  readonly ortLibrary?: string | undefined;
  /** On a GPU, decode steps are recorded and replayed (CUDA graphs); default: yes. */
  readonly cudaGraphs?: boolean | undefined;
  readonly precision: AskedPrecision;
  /** What keys and values are kept in; left out: auto. */
  readonly kv?: KvChoice | undefined;
  /** Sequences that run at once; left out: 16, or fewer where memory is short. */
  readonly parallel?: number | undefined;
  /** Sequences that may wait besides, before another request is taken; it may bring more. */
  readonly queueLimit: number;
  readonly stallTimeoutMs: number;
  /** Memory that archives of texts that retrieve may take together, bytes; default: 1 GiB. */
  readonly archiveBytes?: number | undefined;
  /** Memory for keys and values of prompts, so that those that begin alike are read once; default: on a CPU a share of what is left, on a GPU 0. */
  readonly prefixBytes?: number | undefined;
  /** Models that share the machine, this one included; default: 1. */
  readonly models?: number | undefined;
  /** Sparse autoencoders to attach; left out: those in the folder `saes` of the model's. */
  readonly saes?: readonly { readonly id?: string | undefined; readonly folder: string }[] | undefined;
  readonly saePrecision?: "f32" | "q8" | undefined;
  /** Attach SAEs that say they were trained on another model. */
  readonly saeAnyModel?: boolean | undefined;
  /** File of a chat template, in place of the model's own. */
  readonly chatTemplate?: string | undefined;
  readonly cacheDir?: string | undefined;
}

const ARCHIVE_BYTES = 1 << 30;

/**
 * What the engine's thread is told: the options, with what was left out filled in.
 * @param path of the model, absolute
 */
export function threadOptions(
  path: string,
  options: LocalEngineOptions,
  hasChatTemplate: boolean,
): EngineThreadOptions {
  return {
    path,
    id: options.id ?? basename(path),
    precision: options.precision,
    kv: options.kv ?? "auto",
    cacheRoot: options.cacheDir ?? cacheRoot(process.env),
    window: options.window,
    sinks: options.sinks,
    threads: options.threads,
    spin: options.spin ?? true,
    device: options.device ?? { kind: "cpu" },
    ortLibrary: options.ortLibrary === undefined ? undefined : resolve(options.ortLibrary),
    cudaGraphs: options.cudaGraphs ?? true,
    parallel: options.parallel,
    stallTimeoutMs: options.stallTimeoutMs,
    archiveBytes: options.archiveBytes ?? ARCHIVE_BYTES,
    prefixBytes: options.prefixBytes,
    models: options.models ?? 1,
    saes: {
      folders: options.saes?.map(({ id, folder }) => ({ id, folder: resolve(folder) })),
      precision: options.saePrecision ?? "f32",
      anyModel: options.saeAnyModel ?? false,
    },
    hasChatTemplate,
  };
}
