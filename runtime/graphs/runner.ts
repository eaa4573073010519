import type { CompiledModel, GraphChoice } from "../../models/compile.js";
import type { HookName } from "../../models/hooks.js";
import { isQuantised, type KvFormat, type KvType, kvType } from "../../models/keys-values/kv-format.js";
import type { Archive } from "../cache/archive.js";
import { LambdaCache, type LambdaGeometry } from "../cache/lambda-cache.js";
import { CPU, type Device } from "../ort/device.js";
import type { HostNode } from "../ort/placement.js";
import { PrepackedWeights } from "../ort/session.js";
import { openWeights } from "../ort/weights.js";
import { ActivationsGraph } from "./activations-graph.js";
import { planChunk } from "./chunk.js";
import { DecodeGraph, type DecodeOptions } from "./decode-graph.js";
import type { GraphResources, PlacedSae } from "./graph-resources.js";
import { LensGraph } from "./lens-graph.js";
import { PrefillGraph, type PrefillOptions, type PrefillRun, type RowChunk } from "./prefill-graph.js";
import { checkPatches } from "./residual-patches.js";
import { RotaryTable } from "./rotary-table.js";
import type { Residuals } from "./tap-outputs.js";

export interface RunnerOptions {
  /** The server's window, which longrope's choice of frequencies depends on. */
  readonly window: number;
  readonly threads: number;
  readonly spin?: boolean;
  /** Where graphs run; default: the CPU. Outlives the runner. */
  readonly device?: Device;
  /**
   * Decode steps are recorded and replayed, where the device can (CUDA graphs): launching a step then costs one call, and
   * each cache, number of rows and size of its buffers a recording.
   */
  readonly replays?: boolean;
  /** How keys and values are kept as integers, which only a CPU can; null, the default: as the activations are. */
  readonly kv?: KvFormat | null;
  /** Hooks that can be read, edited and patched. */
  readonly taps?: ReadonlySet<HookName>;
  /** SAEs there whose own cuts edits can ask for; they outlive the runner. */
  readonly cuttingSaes?: readonly PlacedSae[];
}

/** Which of the graphs that prefill. */
interface PrefillKind {
  readonly sinks: number;
  readonly far?: boolean;
  readonly edited?: boolean;
  readonly patched?: boolean;
  readonly retrieval?: boolean;
}

/** Below this, a cache's memory on a device is kept for the next one: giving it back waits for all that runs. */
const WORTH_GIVING_BACK = 256 << 20;

/**
 * Runs a model's graphs over lambda caches: the only place where tensors meet sequences. Graphs are loaded when a cache
 * first needs them. A run that fails leaves counts as they were, so it can be run again.
 */
export class Runner implements Disposable {
  readonly #resources: GraphResources;
  readonly #decode = new Map<string, DecodeGraph>();
  readonly #prefill = new Map<string, PrefillGraph>();
  #lens: LensGraph | undefined;
  #activations: ActivationsGraph | undefined;
  readonly #taps: ReadonlySet<HookName>;
  /** How keys and values are kept as integers; null: as the activations are. */
  readonly kvFormat: KvFormat | null;

  constructor(
    readonly model: CompiledModel,
    options: RunnerOptions,
  ) {
    const { window, threads, spin = true, device = CPU, replays = false, taps = new Set(), cuttingSaes = [] } = options;
    this.#taps = taps;
    this.kvFormat = options.kv ?? null;
    this.#resources = {
      model,
      device,
      weights: openWeights(model.weights, device),
      prepacked: model.activations === "float32" && device.isHost ? new PrepackedWeights() : undefined,
      rotary: model.shape.geometries.map(({ window: own, positions }) =>
        positions.kind === "rotary"
          ? new RotaryTable(positions.rope, positions.rotaryDim, own === "lambda" ? window : own)
          : null,
      ),
      cuttingSaes,
      replays: replays && !device.isHost,
      threads,
      spin,
    };
  }

  /** Loads the graphs that work on a cache; those for edits and patches are loaded when they are first needed. */
  load({ window, sinks }: LambdaGeometry): void {
    using _ = this.#decode.has(`${sinks}${false}${false}`) ? undefined : this.#resources.weights.forgetting();
    this.#settled(() => {
      this.#decodeGraph(sinks, false);
      this.#prefillGraph({ sinks });
      if (sinks > 0 && window < Number.POSITIVE_INFINITY) this.#prefillGraph({ sinks, far: true });
    });
  }

  /**
   * An empty cache; the graphs that work on it are loaded.
   * @param recorded whether steps on it are recorded, where they are at all; not worth it for a cache that soon closes
   */
  openCache(geometry: LambdaGeometry, { recorded = true } = {}): LambdaCache {
    this.load(geometry);
    return new LambdaCache(this.model.shape, geometry, this.kv, this.device, recorded);
  }

  /** What keys and values are kept in. */
  get kv(): KvType {
    return kvType(this.kvFormat, this.model.activations);
  }

  get device(): Device {
    return this.#resources.device;
  }

  get replays(): boolean {
    return this.#resources.replays;
  }

  /** On a device: nodes of the loaded graphs through which data goes to the host and back; there should be none. */
  get hostNodes(): readonly HostNode[] {
    return [...this.#decode.values(), ...this.#prefill.values()].flatMap((graph) => graph.hostNodes);
  }

  /** Loads the graphs that work on a cache, and on a device runs them once: their kernels are loaded when they first run. */
  warmUp(geometry: LambdaGeometry): void {
    const cache = this.openCache(geometry);
    try {
      if (this.device.isHost) return;
      const row = cache.allocate();
      this.prefill(cache, row, [0]);
      this.decode(cache, row, [0]);
      this.device.wait();
    } finally {
      this.closeCache(cache);
    }
  }

  /** Lets go of what graphs have bound of an archive, and frees it. */
  closeArchive(archive: Archive): void {
    for (const graph of this.#decode.values()) graph.forgetArchive(archive);
    archive[Symbol.dispose]();
  }

  closeCache(cache: LambdaCache): void {
    const { bytes } = cache;
    for (const graph of this.#decode.values()) graph.forget(cache);
    cache[Symbol.dispose]();
    if (bytes >= WORTH_GIVING_BACK) this.device.trim();
  }

  /**
   * Runs one token in each of the rows [first, first + tokens.length): logits [tokens.length, vocab], valid until the next
   * run. A row whose token is null does not decode in this step: it stays as it is, and its logits mean nothing.
   * @throws OrtError where the run fails, RangeError where no row decodes or one is not in use; rows are then as before.
   */
  decode(
    cache: LambdaCache,
    first: number,
    tokens: readonly (number | null)[],
    options: DecodeOptions = {},
  ): Float32Array {
    if (tokens.every((token) => token === null)) throw new RangeError("no row has a token to decode");
    if (first + tokens.length > cache.rows) throw new RangeError(`row ${cache.rows} is not in use`);
    const { edits = [], ...rest } = options;
    const edited = edits.some((each) => each !== null);
    const retrieval = (options.archive ?? null) !== null;
    const graph = this.#settled(() => this.#decodeGraph(cache.sinks, edited, retrieval));
    const computed = graph.computed(cache, { first, rows: tokens.length });
    for (let row = computed.first; row < Math.min(computed.first + computed.rows, cache.rows); row++) {
      cache.reserve(row, 1);
      cache.scribble(row);
    }
    this.#forgetStale(cache);
    const logits = graph.run(cache, first, tokens, edited ? options : rest);
    for (const [i, token] of tokens.entries()) if (token !== null) cache.advance(first + i);
    return logits;
  }

  /**
   * Runs a chunk of one row, of at most its W tokens, and stores its keys and values: logits [wanted.length, vocab] of the
   * wanted tokens of the chunk (0-based).
   * @throws RangeError as `checkPatches`, or where the chunk is longer than the window
   */
  prefill(
    cache: LambdaCache,
    row: number,
    ids: ArrayLike<number>,
    wanted: readonly number[] = [],
    options: PrefillOptions = {},
  ): Float32Array {
    const run = this.#prepare(cache, { ...options, row, ids, wanted });
    const [logits] = this.#prefillWith(cache, [run]).run(cache, [run]);
    return logits ?? new Float32Array();
  }

  /**
   * The same for the first chunks of several rows in one run: logits of each. Every chunk takes as long as the longest.
   * @throws RangeError as `prefill`, or where a row has tokens already; OrtError where the run fails. Rows are then as before.
   */
  prefillTogether(cache: LambdaCache, chunks: readonly RowChunk[]): Float32Array[] {
    if (new Set(chunks.map(({ row }) => row)).size < chunks.length) throw new RangeError("a row has one first chunk");
    if (chunks.length === 0) return [];
    const runs = chunks.map((chunk) => this.#prepare(cache, chunk));
    return this.#prefillWith(cache, runs).run(cache, runs);
  }

  /**
   * What the hooks hold in texts of one length, none longer than the window, each read from its beginning: [texts * tokens,
   * width of the hook], text after text. What comes behind the last hook is not run.
   */
  activations(texts: readonly ArrayLike<number>[]): Residuals {
    const graph = this.#settled(() => {
      this.#activations ??= new ActivationsGraph(this.#resources, this.model.reading(this.#taps));
      return this.#activations;
    });
    return graph.run(texts);
  }

  #prepare(cache: LambdaCache, chunk: RowChunk): PrefillRun {
    const { row, ids, patches = null } = chunk;
    if (patches !== null) checkPatches(patches, ids.length, this.model.shape.hiddenSize);
    if (ids.length > cache.windowOf(row))
      throw new RangeError(`a chunk of ${ids.length} tokens is longer than the window`);
    cache.reserve(row, ids.length);
    cache.wipe(row);
    return { ...chunk, chunk: planChunk(cache, row, ids.length) };
  }

  #prefillWith(cache: LambdaCache, runs: readonly PrefillRun[]): PrefillGraph {
    this.#forgetStale(cache);
    const far = runs.some(({ chunk }) => chunk.far);
    const edited = runs.some(({ edits = null }) => edits !== null);
    const patched = runs.some(({ patches = null }) => patches !== null);
    const archived = runs.some(({ archive = null }) => archive !== null);
    // With starting tokens the graph returns the keys that an archive keeps anyway, and values where they are no codes.
    const keepsKeys = archived && (cache.sinks === 0 || isQuantised(cache.kv));
    return this.#settled(() => this.#prefillGraph({ sinks: cache.sinks, far, edited, patched, retrieval: keepsKeys }));
  }

  /** Logits [vocab] that a direction [hiddenSize] in the residual stream adds, through the final norm's gain. */
  lens(direction: Float32Array): Float32Array {
    const graph = this.#settled(() => {
      this.#lens ??= new LensGraph(this.#resources, this.model.lens());
      return this.#lens;
    });
    return graph.run(direction);
  }

  [Symbol.dispose](): void {
    for (const graph of this.#graphs()) graph[Symbol.dispose]();
    this.#resources.prepacked?.[Symbol.dispose]();
    this.#resources.weights[Symbol.dispose]();
  }

  #decodeGraph(sinks: number, edited: boolean, retrieval = false): DecodeGraph {
    const make = () =>
      new DecodeGraph(
        this.#resources,
        this.model.decode({ sinks, retrieval, kv: this.kvFormat, ...this.#hooks(edited) }),
      );
    return remembered(this.#decode, `${sinks}${edited}${retrieval}`, make);
  }

  #prefillGraph({ sinks, far = false, edited = false, patched = false, retrieval = false }: PrefillKind): PrefillGraph {
    const patches = patched ? { patches: this.#taps } : {};
    const choice = { sinks, far, retrieval, kv: this.kvFormat, ...this.#hooks(edited), ...patches };
    const make = () => new PrefillGraph(this.#resources, this.model.prefill(choice));
    return remembered(this.#prefill, `${sinks}${far}${edited}${patched}${retrieval}`, make);
  }

  /** Frees the bindings of all graphs to buffers that a cache has replaced, because bindings hold that memory. */
  #forgetStale(cache: LambdaCache): void {
    for (const graph of this.#decode.values()) graph.forgetStale(cache);
  }

  #graphs(): Disposable[] {
    const single = [this.#lens, this.#activations].filter((graph) => graph !== undefined);
    return [...this.#decode.values(), ...this.#prefill.values(), ...single];
  }

  #hooks(edited: boolean): Pick<GraphChoice, "taps" | "edits" | "cuttingSaes"> {
    if (!edited) return { taps: this.#taps };
    return { taps: this.#taps, edits: this.#taps, cuttingSaes: this.#resources.cuttingSaes };
  }

  /** Gives back the memory of weights that graphs loaded meanwhile have packed copies of. */
  #settled<Result>(work: () => Result): Result {
    const before = this.#graphs().length;
    const result = work();
    if (this.#graphs().length > before) this.#resources.weights.forgetPages();
    return result;
  }
}

function remembered<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  const known = map.get(key);
  if (known !== undefined) return known;
  const value = make();
  map.set(key, value);
  return value;
}
