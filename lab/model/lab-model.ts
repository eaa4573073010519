import { availableParallelism } from "node:os";
import { cacheRoot } from "../../models/cache/compile-cache.js";
import { type CompiledModel, compileModel } from "../../models/compile.js";
import type { HookName } from "../../models/hooks.js";
import { type AskedPrecision, precisionProblem } from "../../models/weights/block-format.js";
import { LambdaCache } from "../../runtime/cache/lambda-cache.js";
import type { DeviceChoice } from "../../runtime/contract/device-choice.js";
import { SetupError } from "../../runtime/contract/errors.js";
import { checkPatches, type ResidualPatches, type RowPatches } from "../../runtime/graphs/residual-patches.js";
import { Runner } from "../../runtime/graphs/runner.js";
import type { Residuals } from "../../runtime/graphs/tap-outputs.js";
import type { Device } from "../../runtime/ort/device.js";
import { openDevice } from "../../runtime/ort/open-device.js";
import { Encoder } from "../../runtime/prompts/encoder.js";

/** Which model, and how it runs. */
export interface ModelChoice {
  readonly path: string;
  readonly name: string;
  readonly precision: AskedPrecision;
  readonly device: DeviceChoice;
  readonly ortLibrary?: string | undefined;
  /** Default: all of the machine. */
  readonly threads?: number | undefined;
  readonly cacheDir?: string | undefined;
}

/** Who is told how far a model is compiled, and what is worth a line. */
export interface Onlookers {
  readonly onProgress?: (share: number) => void;
  readonly onNotice?: (line: string) => void;
}

/** What is read of a run of contexts. */
export interface ContextRun {
  /** Is given what the hooks hold: [contexts * tokens, width of the hook] each, context after context. */
  readonly residuals?: Residuals;
  /** What rows of those are set to; what comes after is computed from it, and the hooks hold what came in. */
  readonly patches?: ResidualPatches;
  /** Tokens of each context (0-based) whose logits are returned; default: none. */
  readonly wanted?: readonly number[];
}

/** Contexts are read from position 0 with full causal attention: none is longer than the model was trained on. */
const LONGEST_CONTEXT = 256;

/**
 * A model in this process, with hooks that can be read: what training and judging an SAE have in common. One context is one
 * chunk, so that nothing but the context decides what a token holds.
 */
export class LabModel implements Disposable {
  #cache: LambdaCache | undefined;

  private constructor(
    readonly name: string,
    readonly compiled: CompiledModel,
    /** Those that it was opened with. */
    readonly hooks: readonly HookName[],
    readonly device: Device,
    readonly threads: number,
    readonly cacheRoot: string,
    /** null: it has no tokenizer. */
    readonly encoder: Encoder | null,
    readonly runner: Runner,
  ) {}

  /**
   * Compiles a model where that has not been done yet, and loads it.
   * @throws ModelFormatError, CacheError as `compileModel`; SetupError where a hook is none of its own, or it cannot run as asked
   */
  static async open(choice: ModelChoice, hooks: readonly string[], on: Onlookers = {}): Promise<LabModel> {
    const { path, name, precision, device: asked, ortLibrary } = choice;
    const root = choice.cacheDir ?? cacheRoot(process.env);
    const threads = choice.threads ?? availableParallelism();
    const { device, notice } = openDevice({ choice: asked, ortLibrary, cacheRoot: root, threads });
    if (notice !== null) on.onNotice?.(notice);
    const kind = device.isHost ? "cpu" : "cuda";
    const problem = precisionProblem(precision, kind, device.bfloat16);
    if (problem !== null) throw new SetupError(problem);
    const { onProgress } = on;
    const compiled = await compileModel({
      ...{ path, precision, device: kind, bfloat16: device.bfloat16, cacheRoot: root },
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    const known = hooks.map((hook) => {
      const found = compiled.hooks.find((each) => each === hook);
      if (found === undefined)
        throw new SetupError(`${name} has no hook ${hook} that can be read; ${listed(compiled)}`);
      return found;
    });
    const encoder = await Encoder.start(path, compiled.shape.vocabSize);
    try {
      const window = Math.min(compiled.shape.trainedLength, LONGEST_CONTEXT);
      const runner = new Runner(compiled, { window, threads, device, taps: new Set(known) });
      return new LabModel(name, compiled, known, device, threads, root, encoder, runner);
    } catch (error) {
      encoder?.close();
      throw error;
    }
  }

  /** Tokens of the longest context. */
  get longestContext(): number {
    return Math.min(this.compiled.shape.trainedLength, LONGEST_CONTEXT);
  }

  /**
   * Runs contexts of one length from their beginning, all at once.
   * @returns logits [wanted.length, vocab] of each context
   * @throws RangeError as `checkPatches`, or where contexts differ in length
   */
  run(contexts: readonly ArrayLike<number>[], { residuals, patches, wanted = [] }: ContextRun): Float32Array[] {
    const tokens = contexts[0]?.length ?? 0;
    if (contexts.some(({ length }) => length !== tokens)) throw new RangeError("contexts of one run are equally long");
    const patched = patches && byContext(patches, contexts.length, tokens, this.compiled.shape.hiddenSize);
    const cache = this.#cacheFor();
    const rows = contexts.map(() => cache.allocate());
    try {
      const own = contexts.map((): Residuals => new Map());
      const logits = this.runner.prefillTogether(
        cache,
        contexts.map((ids, i) => ({
          ...{ row: rows[i]!, ids, wanted, patches: patched?.[i] ?? null },
          ...(residuals ? { residuals: own[i]! } : {}),
        })),
      );
      if (residuals) gather(own, residuals);
      return logits;
    } finally {
      for (const row of rows.toReversed()) cache.release(row);
    }
  }

  /**
   * What the hooks hold in contexts of one length, of at least a token and none longer than `longestContext`: [contexts *
   * tokens, width of the hook] each, context after context. What comes behind the last of them is not run.
   */
  activations(contexts: readonly ArrayLike<number>[]): Residuals {
    return this.runner.activations(contexts);
  }

  [Symbol.dispose](): void {
    this.encoder?.close();
    if (this.#cache) this.runner.closeCache(this.#cache);
    this.runner[Symbol.dispose]();
  }

  /** Not by `Runner.openCache`, which would load the decode graph as well. */
  #cacheFor(): LambdaCache {
    const { compiled, device, longestContext: window } = this;
    this.#cache ??= new LambdaCache(compiled.shape, { window, sinks: 0 }, compiled.activations, device, false);
    return this.#cache;
  }
}

/** Patches of rows of a run as those of each context's own tokens. */
function byContext(patches: ResidualPatches, contexts: number, tokens: number, width: number): ResidualPatches[] {
  checkPatches(patches, contexts * tokens, width);
  const dealt = Array.from({ length: contexts }, () => new Map<HookName, RowPatches>());
  for (const [hook, { rows, values }] of patches)
    for (const [context, own] of dealt.entries()) {
      const places = Array.from(rows, (_, i) => i).filter((i) => Math.floor(rows[i]! / tokens) === context);
      const set = new Float32Array(places.length * width);
      for (const [to, i] of places.entries()) set.set(values.subarray(i * width, (i + 1) * width), to * width);
      own.set(hook, { rows: places.map((i) => rows[i]! % tokens), values: set });
    }
  return dealt;
}

/** Joins what the hooks hold in each context. */
function gather(parts: readonly Residuals[], into: Residuals): void {
  for (const hook of parts[0]?.keys() ?? []) {
    const blocks = parts.map((part) => part.get(hook) ?? new Float32Array());
    const all = new Float32Array(blocks.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const block of blocks) {
      all.set(block, at);
      at += block.length;
    }
    into.set(hook, all);
  }
}

/** Which hooks there are. */
function listed({ hooks, shape }: CompiledModel): string {
  const kinds = hooks.filter((hook) => hook.startsWith("blocks.0.")).map((hook) => hook.slice("blocks.0.".length));
  return `blocks.0 to blocks.${shape.layers - 1} have ${kinds.join(", ")}`;
}
