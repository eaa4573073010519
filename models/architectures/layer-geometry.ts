import { z } from "zod";
import { type ConfigFields, fieldError, parseFields, whole } from "../config.js";
import type { Geometry, ModelShape } from "../model-shape.js";

const WindowFile = z.object({
  sliding_window: whole(1, 2 ** 40).nullish(),
  use_sliding_window: z.boolean("it must be true or false").nullish(),
  layer_types: z
    .array(
      z.enum(["full_attention", "sliding_attention"], "the types known here are full_attention and sliding_attention"),
      "it must be a list of types",
    )
    .nullish(),
});

/** Whether a layer is one of those with a sliding window, and what it sees of the text. */
export interface LayerWindow {
  readonly slides: boolean;
  readonly window: Geometry["window"];
}

/**
 * The window of every layer: `sliding_window` where the config's `layer_types` says so, or, without that list, where
 * `slides` does. A window that no text of the trained length fills has never hidden anything, so it is none.
 * @throws ModelFormatError naming the field.
 */
export function layerWindows(
  config: ConfigFields,
  { layers, maxPositionEmbeddings }: { readonly layers: number; readonly maxPositionEmbeddings: number },
  slides: (layer: number) => boolean,
): LayerWindow[] {
  const { sliding_window, use_sliding_window, layer_types: types } = parseFields(WindowFile, config);
  const window = use_sliding_window === false ? null : (sliding_window ?? null);
  if (types && types.length !== layers)
    throw fieldError(config, ["layer_types"], `it must have ${layers} entries, one per layer`);
  if (types?.includes("sliding_attention") && window === null)
    throw fieldError(
      config,
      [sliding_window == null ? "sliding_window" : "use_sliding_window"],
      "layer_types has layers with a sliding window",
    );
  const trained = window === null || window >= maxPositionEmbeddings ? "lambda" : window;
  return Array.from({ length: layers }, (_, layer) => {
    const sliding = types ? types[layer] === "sliding_attention" : slides(layer);
    return { slides: sliding, window: sliding ? trained : "lambda" };
  });
}

/** Layers of equal geometry share one. */
export function sharedGeometries(layers: readonly Geometry[]): Pick<ModelShape, "geometries" | "layerGeometries"> {
  const distinct = new Map(layers.map((geometry) => [JSON.stringify(geometry), geometry]));
  const keys = [...distinct.keys()];
  return {
    geometries: [...distinct.values()],
    layerGeometries: layers.map((geometry) => keys.indexOf(JSON.stringify(geometry))),
  };
}
