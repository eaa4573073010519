import type { ModelShape } from "../../models/model-shape.js";
import type { ActivationType } from "../../models/onnx/graph.js";
import { LambdaCache, type LambdaGeometry } from "../cache/lambda-cache.js";
import { SetupError } from "../contract/errors.js";

/** Rows that are in use at once where nobody says how many, if there is memory for them. */
const PARALLEL = 16;
/** Share of the memory that rows in use may take unless somebody asks for more of them, and that all may with the parked ones. */
const SHARE_IN_USE = 1 / 4;
const SHARE_OF_ROWS = 1 / 2;
/** Rows that are parked at once. */
const MOST_PARKED = 256;

export interface Places {
  /** Sequences that have a row at once. */
  readonly parallel: number;
  /** Sequences whose rows may be parked at once: of slow readers at least as many as run. */
  readonly parking: number;
}

export interface PlacesOptions {
  readonly shape: ModelShape;
  readonly geometry: LambdaGeometry;
  readonly activations: ActivationType;
  /** Of the machine or the GPU, and of the weights, bytes. */
  readonly memoryBytes: number;
  readonly weightBytes: number;
  /** Rows that the user wants; undefined: as many as are worth it. */
  readonly asked: number | undefined;
}

/** How many texts have rows at once. @throws SetupError where the machine has no memory for as many as are asked for. */
export function placesOf({ asked, memoryBytes, weightBytes, ...options }: PlacesOptions): Places {
  const row = rowBytes(options);
  if (asked !== undefined && weightBytes + asked * row > memoryBytes) {
    const most = Math.max(0, Math.floor((memoryBytes - weightBytes) / row));
    throw new SetupError(
      `--parallel ${asked} takes ${gigabytes(asked * row)} GB for keys and values (${megabytes(row)} MB for each text with a window of ${options.geometry.window}), and there is room for ${most} beside the model's weights in ${gigabytes(memoryBytes)} GB: choose fewer, or a smaller --window.`,
    );
  }
  const fitting = (share: number) => Math.floor((share * memoryBytes) / row);
  const parallel = asked ?? Math.max(1, Math.min(PARALLEL, fitting(SHARE_IN_USE)));
  return { parallel, parking: Math.max(parallel, Math.min(MOST_PARKED, fitting(SHARE_OF_ROWS) - parallel)) };
}

/** Bytes of keys and values of one row whose window is full. */
function rowBytes({
  shape,
  geometry,
  activations,
}: Omit<PlacesOptions, "asked" | "memoryBytes" | "weightBytes">): number {
  using cache = new LambdaCache(shape, geometry, activations);
  return cache.bytesFor(1, geometry.sinks + geometry.window);
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
const gigabytes = (bytes: number): string => (bytes / 1e9).toFixed(1);
