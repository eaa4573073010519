import type { DescribedModel } from "./architectures/architecture.js";
import type { LayerAttention } from "./attention/attention.js";
import { ContextAttention } from "./attention/context-attention.js";
import { DecodeAttention } from "./attention/decode-attention.js";
import { GroupedQueryAttention } from "./attention/grouped-query-attention.js";
import { MiddleRetrieval } from "./attention/middle-retrieval.js";
import { PrefillAttention } from "./attention/prefill-attention.js";
import { Forward, type ForwardOptions } from "./forward.js";
import {
  type ActivationsInterface,
  BATCH,
  type DecodeInterface,
  type LensInterface,
  type PrefillInterface,
  TOKENS,
  WANTED,
} from "./graph-interface.js";
import type { HookName } from "./hooks.js";
import type { KvFormat } from "./keys-values/kv-format.js";
import { type DeviceKind, GraphBuilder, type Value } from "./onnx/graph.js";
import type { CuttingSae } from "./sae/edit-cut.js";
import { activationsOf, type Precision } from "./weights/block-format.js";
import { WeightPlan } from "./weights/weight-plan.js";

/** What makes one graph of a model differ from another. */
export interface GraphOptions {
  /** Starting tokens that stay visible (G). */
  readonly sinks: number;
  readonly precision: Precision;
  /** What they run on; default: the CPU. */
  readonly device?: DeviceKind;
  /** How the checkpoint stores its tensors. */
  readonly dtypes: ReadonlyMap<string, string>;
  readonly taps: ReadonlySet<HookName>;
  /** Hooks at which features can be edited; empty: the graph has no edit inputs. */
  readonly edits: ReadonlySet<HookName>;
  /** Of a prefill graph, the same as in `ForwardOptions`. */
  readonly patches?: ReadonlySet<HookName>;
  /** The same as in `ForwardOptions`. */
  readonly cuttingSaes?: readonly CuttingSae[];
  /** Keys that have left the window can be retrieved; a prefill graph returns what an archive keeps. Default: no. */
  readonly retrieval?: boolean;
  /** How keys and values are kept as integers, which only a CPU can; null or left out: as the activations are. */
  readonly kv?: KvFormat | null;
  readonly weightsFile: string;
}

export interface BuiltGraph<Interface> {
  readonly interface: Interface;
  /** The ONNX file. */
  readonly bytes: Uint8Array;
  /** Every place of the model that could be tapped, in running order. */
  readonly hooks: readonly HookName[];
}

/** One token per row, cache written in place; adds the weights it needs to `plan`. */
export function buildDecode(
  model: DescribedModel,
  plan: WeightPlan,
  options: GraphOptions,
): BuiltGraph<DecodeInterface> {
  const graph = new GraphBuilder(activationsOf(options.precision), options.device);
  const ids = graph.input("ids", "int64", [BATCH, 1]);
  const kv = options.kv ?? null;
  const cache = { ...model.shape, sinks: options.sinks, kv };
  const retrieval = options.retrieval ? new MiddleRetrieval(graph, cache) : null;
  const attention =
    kv !== null && retrieval === null
      ? new GroupedQueryAttention(graph, { ...cache, kv })
      : new DecodeAttention(graph, cache, retrieval);
  const { taps, edits, hooks, positions } = run(model, plan, options, graph, attention, ids, null);
  const { geometries, layers } = attention;
  const retrieved = retrieval?.count ?? null;
  const { recordable, signature } = graph;
  const own = { phase: "decode", recordable, signature, logits: "logits" } as const;
  return {
    interface: { ...own, ids, positions, taps, edits, geometries, retrieved, layers },
    bytes: graph.serialize("decode"),
    hooks,
  };
}

/** A chunk of tokens, cache only read; `far` where queries can stand beyond W from the starting tokens. */
export function buildPrefill(
  model: DescribedModel,
  plan: WeightPlan,
  options: GraphOptions & { readonly far: boolean },
): BuiltGraph<PrefillInterface> {
  const graph = new GraphBuilder(activationsOf(options.precision), options.device);
  const ids = graph.input("ids", "int64", [BATCH, TOKENS]);
  const wanted = graph.input("wanted", "int64", [WANTED]);
  const attention = new PrefillAttention(
    graph,
    { ...model.shape, sinks: options.sinks, kv: options.kv ?? null },
    options.far,
    options.retrieval,
  );
  const { taps, edits, patches, hooks, positions } = run(model, plan, options, graph, attention, ids, wanted);
  const { geometries, layers } = attention;
  const own = { phase: "prefill", signature: graph.signature, logits: "logits" } as const;
  return {
    interface: { ...own, ids, wanted, positions, taps, edits, patches, geometries, layers },
    bytes: graph.serialize(options.far ? "prefill-far" : "prefill"),
    hooks,
  };
}

/** Texts from their beginning, as far as the last of the tapped hooks: no cache, no logits. */
export function buildActivations(
  model: DescribedModel,
  plan: WeightPlan,
  options: Omit<GraphOptions, "sinks" | "edits">,
): BuiltGraph<ActivationsInterface> {
  const graph = new GraphBuilder(activationsOf(options.precision), options.device);
  const ids = graph.input("ids", "int64", [BATCH, TOKENS]);
  const attention = new ContextAttention(graph, model.shape);
  const { taps, hooks, positions } = run(
    model,
    plan,
    { ...options, edits: new Set(), logits: false },
    graph,
    attention,
    ids,
    null,
  );
  const { geometries, places } = attention;
  return {
    interface: { signature: graph.signature, ids, places, positions, geometries, taps },
    bytes: graph.serialize("activations"),
    hooks,
  };
}

/** What directions in the residual stream do to the logits. */
export function buildLens(
  model: DescribedModel,
  plan: WeightPlan,
  options: GraphOptions,
): { readonly interface: LensInterface; readonly bytes: Uint8Array } {
  const activations = activationsOf(options.precision);
  const whole = new GraphBuilder(activations, options.device);
  const attention = new DecodeAttention(whole, { ...model.shape, sinks: options.sinks, kv: null });
  const { head } = run(model, plan, options, whole, attention, whole.input("ids", "int64", [BATCH, 1]), null);
  if (head === null) throw new RangeError(`${model.modelType} has no output matrix`);
  const graph = new GraphBuilder(activations, options.device);
  const { hiddenSize } = model.shape;
  const directions = graph.input("directions", "float32", [WANTED, hiddenSize]);
  new Forward(graph, plan, attention, "", null, { ...options, hiddenSize }).lens(directions, head);
  return {
    interface: { signature: graph.signature, directions, logits: "logits", weights: graph.weights },
    bytes: graph.serialize("lens"),
  };
}

/** The weights that a model's graphs need, and its hooks: building any one graph names them all. */
export function planWeights(
  model: DescribedModel,
  stored: Pick<GraphOptions, "precision" | "dtypes" | "device">,
): { readonly plan: WeightPlan; readonly hooks: readonly HookName[] } {
  const plan = new WeightPlan();
  const none = new Set<HookName>();
  const { hooks } = buildDecode(model, plan, {
    ...stored,
    sinks: 0,
    taps: none,
    edits: none,
    weightsFile: "",
  });
  return { plan, hooks };
}

function run(
  model: DescribedModel,
  plan: WeightPlan,
  options: Omit<ForwardOptions, "hiddenSize">,
  graph: GraphBuilder,
  attention: LayerAttention,
  ids: Value,
  wanted: Value | null,
): Forward {
  const pass = new Forward(graph, plan, attention, ids, wanted, { ...options, hiddenSize: model.shape.hiddenSize });
  model.forward(pass);
  return pass;
}
