import type { ModelShape } from "../../models/model-shape.js";
import type { ActivationType } from "../../models/onnx/graph.js";
import { LambdaCache, type LambdaGeometry } from "../cache/lambda-cache.js";
import { LARGEST_SNAPSHOT } from "../cache/snapshot.js";
import { SetupError } from "../contract/errors.js";

/** Rows that are in use at once where nobody says how many, if there is memory for them. */
const PARALLEL = 16;
/** Share of the memory beside the weights that rows in use may take unless somebody asks for more of them. */
const SHARE_IN_USE = 1 / 4;
/** Share of the host's memory that is left then, which parked rows may take. */
const SHARE_PARKED = 1 / 4;
/** Rows that are parked at once. */
const MOST_PARKED = 256;

export interface Places {
  /** Sequences that have a row at once. */
  readonly parallel: number;
  /** Sequences whose rows may be parked at once, in the host's memory. */
  readonly parking: number;
}

export interface PlacesOptions {
  readonly shape: ModelShape;
  readonly geometry: LambdaGeometry;
  readonly activations: ActivationType;
  /** Of what the model runs on, of the host, and of the weights, bytes. */
  readonly memoryBytes: number;
  readonly hostBytes: number;
  readonly weightBytes: number;
  /** Rows that the user wants; undefined: as many as are worth it. */
  readonly asked: number | undefined;
}

/** How many texts have rows at once. @throws SetupError where the machine has no memory for as many as are asked for. */
export function placesOf({ asked, memoryBytes, hostBytes, weightBytes, ...options }: PlacesOptions): Places {
  const row = rowBytes(options);
  if (asked !== undefined && weightBytes + asked * row > memoryBytes) {
    const most = Math.max(0, Math.floor((memoryBytes - weightBytes) / row));
    throw new SetupError(
      `--parallel ${asked} takes ${gigabytes(asked * row)} GB for keys and values (${megabytes(row)} MB for each text with a window of ${options.geometry.window}), and there is room for ${most} beside the model's weights in ${gigabytes(memoryBytes)} GB: choose fewer, or a smaller --window.`,
    );
  }
  const fitting = Math.floor((SHARE_IN_USE * (memoryBytes - weightBytes)) / row);
  const parallel = asked ?? Math.max(1, Math.min(PARALLEL, fitting));
  const left = hostBytes === memoryBytes ? hostBytes - weightBytes - parallel * row : hostBytes;
  // One array holds what is parked of a row.
  const parked = row > LARGEST_SNAPSHOT ? 0 : Math.floor((SHARE_PARKED * left) / row);
  return { parallel, parking: Math.max(0, Math.min(MOST_PARKED, parked)) };
}

/** Bytes of keys and values of one row whose window is full. */
function rowBytes({ shape, geometry, activations }: Pick<PlacesOptions, "shape" | "geometry" | "activations">): number {
  using cache = new LambdaCache(shape, geometry, activations);
  return cache.bytesFor(1, geometry.sinks + geometry.window);
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
const gigabytes = (bytes: number): string => (bytes / 1e9).toFixed(1);
