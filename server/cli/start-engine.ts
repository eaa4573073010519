import { join } from "node:path";
import { findModel } from "../../models/hub/find-model.js";
import { packageRoot } from "../../models/package-root.js";
import type { Engine } from "../../runtime/contract/generation.js";
import { LocalEngine } from "../../runtime/engine/engine.js";
import type { EngineOptions } from "./options.js";
import { createProgress } from "./progress.js";

/** How many sequences share the engine, and how long it waits for a reader. */
export interface EngineLoad {
  /** Left out: the engine's own default. */
  readonly parallel?: number | undefined;
  readonly queueLimit: number;
  readonly stallTimeoutMs: number;
  /** Memory for keys that `lm_infinite.retrieve` keeps, bytes; left out: the engine's own default. */
  readonly archiveBytes?: number;
  /** Memory for prompts that begin alike, bytes; left out: the engine's own default. */
  readonly prefixBytes?: number | undefined;
  /** Models that share the machine; left out: this one. */
  readonly models?: number;
  /** Is given lines for the log; left out: they go to stderr. */
  readonly onNotice?: (line: string) => void;
}

const ALONE: EngineLoad = { parallel: 1, queueLimit: 0, stallTimeoutMs: 3_600_000, prefixBytes: 0 };

/** The model that is there without any. */
export const embeddedModel = (): string => join(packageRoot(), "models", "default");

/** Loads the model that the flags name, or the embedded one, and shows how a compilation goes. `name`: where it has another. */
export async function startEngine(
  options: EngineOptions & { readonly name?: string | undefined; readonly chatTemplate?: string | undefined },
  load: EngineLoad = ALONE,
): Promise<Engine> {
  const { path, name } = findModel(options.model ?? embeddedModel(), process.env);
  const progress = createProgress("compiling", process.stderr);
  try {
    return await LocalEngine.start(
      {
        model: path,
        id: options.name ?? name,
        window: options.window,
        sinks: options.sinks,
        threads: options.threads,
        device: options.device ?? { kind: "auto" },
        ortLibrary: options.ortLibrary,
        cudaGraphs: options.cudaGraphs,
        precision: options.precision,
        kv: options.kv,
        chatTemplate: options.chatTemplate,
        cacheDir: options.cacheDir,
        saes: options.sae?.filter(({ folder }) => folder !== "none"),
        saePrecision: options.saePrecision,
        saeAnyModel: options.saeAnyModel,
        ...load,
      },
      progress.show,
      load.onNotice ?? ((line) => process.stderr.write(`${line}\n`)),
    );
  } finally {
    progress.stop();
  }
}
