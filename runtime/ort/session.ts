import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import koffi from "koffi";
import type { Pointer } from "./api.js";
import { CPU, type Device } from "./device.js";
import { theEnvironment } from "./environment.js";
import { Handle, holdAll } from "./handle.js";
import { check, library, made } from "./library.js";
import { type HostNode, hostNodes } from "./placement.js";
import type { Tensor } from "./tensor.js";

export interface SessionOptions {
  /**
   * Threads of one operator, at least 1: that one runs on the calling thread alone. Sessions with the `threads` and `spin`
   * of the first in the process share its threads.
   */
  readonly threads: number;
  /** Whether idle threads spin; off, a step costs more but a busy neighbour costs less. */
  readonly spin?: boolean;
  /** Weights by initializer name, read in place, over memory of our own (not `Tensor.zeros`); the session holds them. */
  readonly weights?: ReadonlyMap<string, Tensor>;
  /** Packed copies of weights shared between the sessions of one model. */
  readonly prepacked?: PrepackedWeights;
  /** Make packed copies of f32 weights: faster prefill, twice the memory. */
  readonly prepack?: boolean;
  /** Where it runs, and where the tensors lie that are bound to it, the weights too; default: the CPU. */
  readonly device?: Device;
  /** Its runs may be recorded and replayed, where the device can (`Binding.run`). */
  readonly replays?: boolean;
}

/** Packed weights that several sessions share. Dispose after the sessions. */
export class PrepackedWeights implements Disposable {
  readonly #handle = new Handle(
    "prepacked weights",
    made((api, out) => api.CreatePrepackedWeightsContainer(out)),
    (p) => library().api.ReleasePrepackedWeightsContainer(p),
  );
  get pointer(): Pointer {
    return this.#handle.pointer;
  }
  hold(): void {
    this.#handle.hold();
  }
  letGo(): void {
    this.#handle.letGo();
  }
  [Symbol.dispose](): void {
    this.#handle[Symbol.dispose]();
  }
}

/** A graph, loaded from a file and ready to run. */
export class Session implements Disposable {
  readonly #handle: Handle;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly device: Device;
  /** On a device: nodes through which data goes to the host and back; there should be none. */
  readonly hostNodes: readonly HostNode[];

  private constructor(pointer: Pointer, options: SessionOptions, optimized: Uint8Array | null) {
    let letGo = () => {};
    this.device = options.device ?? CPU;
    this.#handle = new Handle("session", pointer, (p) => {
      waitFor(this.device);
      library().api.ReleaseSession(p);
      letGo();
    });
    try {
      letGo = holdAll([...(options.weights?.values() ?? []), ...(options.prepacked ? [options.prepacked] : [])]);
      this.hostNodes = optimized === null ? [] : hostNodes(pointer, optimized);
      if (this.hostNodes.length > 0) this.device.leftThrough(this.hostNodes);
      this.inputs = names(pointer, "Input");
      this.outputs = names(pointer, "Output");
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** @throws OrtError with the file and ONNX Runtime's reason. */
  static load(path: string, options: SessionOptions): Session {
    using settings = sessionOptions(options);
    const env = theEnvironment(threadsOf(options)).pointer;
    const { prepacked } = options;
    const create = () =>
      made(
        (api, out) =>
          prepacked === undefined
            ? api.CreateSession(env, path, settings.pointer, out)
            : api.CreateSessionWithPrepackedWeightsContainer(env, path, settings.pointer, prepacked.pointer, out),
        path,
      );
    const { device = CPU } = options;
    const folder = device.isHost ? null : temporaryFolder(path);
    if (folder === null) return new Session(create(), options, null);
    try {
      const optimized = join(folder, "optimized.onnx");
      check(library().api.SetOptimizedModelFilePath(settings.pointer, optimized), optimized);
      const pointer = create();
      return new Session(pointer, options, readFileSync(optimized));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  get pointer(): Pointer {
    return this.#handle.pointer;
  }

  hold(): void {
    this.#handle.hold();
  }

  letGo(): void {
    this.#handle.letGo();
  }

  [Symbol.dispose](): void {
    this.#handle[Symbol.dispose]();
  }
}

/** In the system's folder for these, else beside a graph; null where nothing can be written: then its nodes are not looked at. */
function temporaryFolder(graph: string): string | null {
  for (const prefix of [join(tmpdir(), "lambdatap-"), `${graph}-`]) {
    try {
      return mkdtempSync(prefix);
    } catch {
      // The next one may do.
    }
  }
  return null;
}

/** Until what its runs have left is done: it must not be the last thing that keeps their memory's allocators. */
function waitFor(device: Device): void {
  try {
    device.wait();
  } catch {
    // What has failed is told to whoever reads its results.
  }
}

const threadsOf = ({ threads, spin }: SessionOptions) => ({ threads, spin: spin !== false });

function sharesThreads(options: SessionOptions): boolean {
  const asked = threadsOf(options);
  const environment = theEnvironment(asked);
  return asked.threads > 1 && asked.threads === environment.threads && asked.spin === environment.spin;
}

function sessionOptions(options: SessionOptions): Handle {
  const { api } = library();
  const { device = CPU } = options;
  if (!Number.isInteger(options.threads) || options.threads < 1) {
    throw new RangeError(`a session needs 1 thread or more, not ${options.threads}`);
  }
  const handle = new Handle(
    "session options",
    made((a, out) => a.CreateSessionOptions(out)),
    (p) => api.ReleaseSessionOptions(p),
  );
  const settings = handle.pointer;
  try {
    check(api.SetSessionLogSeverityLevel(settings, 4));
    if (sharesThreads(options)) check(api.DisablePerSessionThreads(settings));
    else check(api.SetIntraOpNumThreads(settings, options.threads));
    check(api.DisableMemPattern(settings));
    const entries: Record<string, string> = {
      "session.intra_op.allow_spinning": options.spin === false ? "0" : "1",
      "session.disable_prepacking": options.prepack === true && device.isHost ? "0" : "1",
    };
    if (!device.isHost) {
      entries["session.record_ep_graph_assignment_info"] = "1";
      // It makes a Split again of what was cut one by one, see `GraphBuilder.split`.
      entries["optimization.disable_specified_optimizers"] = "GatherSliceToSplitFusion";
    }
    for (const [key, value] of Object.entries(entries)) check(api.AddSessionConfigEntry(settings, key, value), key);
    device.prepare(settings, options.replays === true);
    for (const [name, tensor] of options.weights ?? []) check(api.AddInitializer(settings, name, tensor.pointer), name);
    return handle;
  } catch (error) {
    handle[Symbol.dispose]();
    throw error;
  }
}

function names(session: Pointer, kind: "Input" | "Output"): string[] {
  const { allocator } = library();
  const count = Number(made((api, out) => api[`SessionGet${kind}Count`](session, out)));
  return Array.from({ length: count }, (_, i) =>
    takeText(made((api, out) => api[`SessionGet${kind}Name`](session, i, allocator, out))),
  );
}

function takeText(pointer: Pointer): string {
  const { api, allocator } = library();
  const value: string = koffi.decode.string(pointer);
  check(api.AllocatorFree(allocator, pointer));
  return value;
}
