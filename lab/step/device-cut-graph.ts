import type { Value } from "../../models/onnx/graph.js";
import { topAfaCut, topKCut } from "../../models/sae/reading-cut.js";
import { type Encoding, encode } from "./encode-graph.js";
import type { StepConfig, TrainedActivation } from "./step-config.js";
import { next, type StepGraph, StepGraphBuilder } from "./step-graph.js";
import { PULL, TARGET_PULL } from "./update-graph.js";

/** Places that are looked through for the cut of top-AFA, on the host: int64 [1], as `topAfaCut` has them. */
export const PLACES = "places";
/** Batches since each feature was active last, [1, dSae]. */
export const IDLE = "idle";
/** 1 where a feature is dead, [1, dSae]. */
export const DEAD_MASK = "dead_mask";
/** What the host is told of a batch: numbers in this order. */
export const TOLD = "told";
export const TOLD_NUMBERS = ["dead", "unfinished", "afa", "l0", "leastKept"] as const;

/** Halvings after which float32 has no number left between the bounds that decides anything. */
const HALVINGS = 40;
/** Greater than any activation. */
const NOTHING = 3e38;

/**
 * The first half of a step, cut where it was computed: `kept` [batch, dSae], which features are dead by now, and the gradients
 * of the loss of lengths. It changes nothing that it reads, so that it can be run again with more places.
 */
export function deviceCutGraph(
  config: StepConfig,
  activation: Exclude<TrainedActivation, { kind: "jumprelu" }>,
): StepGraph {
  const { dSae, batch } = config;
  const step = new StepGraphBuilder(config, false);
  const { graph } = step;
  const encoding = encode(step);
  const { kept, unfinished } = cut(step, activation, encoding);
  step.output("kept", kept, [batch, dSae]);
  const isKept = step.above(kept, 0);
  const isActive = step.above(step.sum(isKept, 0), 0);
  const idle = step.times(step.plus(step.input(IDLE, [1, dSae]), 1), step.minus(step.number(1), isActive));
  const dead = step.above(idle, config.dead.after - 0.5);
  step.output(next(IDLE), idle, [1, dSae]);
  step.output(DEAD_MASK, dead, [1, dSae]);
  const isNothing = step.minus(step.number(1), isKept);
  const least = graph.op("ReduceMin", [step.plus(kept, step.times(isNothing, NOTHING))], { keepdims: 0 });
  const total = (value: Value) => graph.op("ReduceSum", [value], { keepdims: 0 });
  const told = [
    total(dead),
    unfinished === null ? step.number(0) : total(unfinished),
    activation.kind === "top-afa" ? pull(step, activation, encoding, kept) : step.number(0),
    step.times(total(isKept), 1 / batch),
    least,
  ];
  const one = graph.constant("int64", [1], [1]);
  step.output(
    TOLD,
    graph.join(
      told.map((value) => graph.op("Reshape", [value, one])),
      0,
    ),
    [told.length],
  );
  return step.finish("device-cut");
}

function cut(
  step: StepGraphBuilder,
  activation: Exclude<TrainedActivation, { kind: "jumprelu" }>,
  { activations, norms, length }: Encoding,
): { readonly kept: Value; readonly unfinished: Value | null } {
  const { graph, config } = step;
  switch (activation.kind) {
    case "top-afa": {
      const lengths = graph.op("Reshape", [norms, graph.constant("int64", [2], [1, config.dSae])]);
      const sizes = step.times(activations, lengths);
      const places = graph.hostInput(PLACES, "int64", [1]);
      return topAfaCut(graph, { activations, sizes, norm: length }, config.dSae, places);
    }
    case "topk": {
      const places = graph.constant("int64", [1], [activation.k]);
      return topKCut(graph, { activations, sizes: activations, norm: length }, places);
    }
    case "batch-topk":
      return { kept: largestOfAll(step, activations, activation.k * config.batch), unfinished: null };
  }
}

/**
 * Activations that are not below the `places`-th largest of all. Bisection: a TopK of all would give one block of a GPU to the
 * whole batch.
 */
function largestOfAll(step: StepGraphBuilder, activations: Value, places: number): Value {
  const { graph } = step;
  let low = step.number(0);
  let high = step.times(graph.op("ReduceMax", [activations], { keepdims: 0 }), 1 + 1e-6);
  const from = (limit: Value) => graph.cast(graph.op("GreaterOrEqual", [activations, limit]), "float32");
  for (let i = 0; i < HALVINGS; i++) {
    const middle = step.times(step.plus(low, high), 0.5);
    const isEnough = graph.op("GreaterOrEqual", [
      graph.op("ReduceSum", [from(middle)], { keepdims: 0 }),
      step.number(places),
    ]);
    low = graph.op("Where", [isEnough, middle, low]);
    high = graph.op("Where", [isEnough, high, middle]);
  }
  return step.times(activations, from(low));
}

/** Writes the factors of f and z in the gradients of lambda mean (|f| - T)^2, which are 0 where a length is. @returns the loss */
function pull(
  step: StepGraphBuilder,
  { lambda, target: kind }: TrainedActivation & { kind: "top-afa" },
  { inputLength, length: centredLength }: Encoding,
  kept: Value,
): Value {
  const { batch } = step.config;
  const length = step.lengths(kept);
  const target = kind === "centred" ? centredLength : inputLength;
  const difference = step.minus(length, target);
  const force = step.times(difference, (2 * lambda) / batch);
  const over = (divisor: Value) => {
    const safe = step.graph.op("Max", [divisor, step.number(1e-30)]);
    return step.times(step.graph.op("Div", [force, safe]), step.above(divisor, 0));
  };
  step.output(PULL, over(length), [batch, 1]);
  step.output(TARGET_PULL, over(target), [batch, 1]);
  return step.times(step.meanSquare(difference), lambda);
}
