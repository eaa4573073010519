import type { DecodeInterface } from "../graph-interface.js";
import type { KvPlace } from "../keys-values/kv-codes.js";
import type { GraphBuilder, Value } from "../onnx/graph.js";
import {
  type CacheShape,
  layersWith,
  type Rotary,
  rotaryInputs,
  rotate,
  sinkKeysInput,
  turnsSinks,
} from "./attention.js";

/** Names of a geometry's starting tokens in a decode graph. */
type SinkNames = DecodeInterface["geometries"][number]["sinks"];

const rotaryOf = ({ geometries }: CacheShape, geometry: number): Rotary | null => {
  const positions = geometries[geometry]?.positions;
  return positions?.kind === "rotary" ? positions : null;
};

/** Inputs for the starting tokens of a geometry, whose names begin with `prefix`; null where none are turned. */
export function sinkInputs(graph: GraphBuilder, prefix: string, cache: CacheShape, geometry: number): SinkNames {
  const [own, rotary] = [cache.geometries[geometry], rotaryOf(cache, geometry)];
  if (own === undefined || rotary === null || !turnsSinks(own, cache.sinks)) return null;
  return {
    rotary: rotaryInputs(graph, `${prefix}sink_`, cache.sinks, rotary),
    keys: sinkKeysInput(graph, prefix, cache, geometry),
  };
}

/**
 * Turns the starting tokens of all layers of a geometry, which stand at the same positions, in one rotation.
 * @param kept makes elements of the cache of them
 * @returns those of each of its layers, none where they are not turned
 */
export function turnedSinks(
  graph: GraphBuilder,
  cache: CacheShape,
  geometry: number,
  sinks: SinkNames,
  kept: (keys: Value, place: KvPlace) => Value,
): Value[] {
  const rotary = rotaryOf(cache, geometry);
  if (sinks === null || rotary === null) return [];
  const layers = layersWith(cache, geometry);
  const keys = kept(rotate(graph, sinks.keys, sinks.rotary, rotary, cache.headDim), { of: "keys", layers });
  return graph.multi("Split", [keys], layers.length, { axis: 1, num_outputs: layers.length });
}
