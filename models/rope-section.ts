import { z } from "zod";
import { type ConfigFields, fieldError, parseFields } from "./config.js";
import { isJsonObject, type JsonObject } from "./model-file.js";

/** Which rotary positions of a config are asked for. */
export interface LayersOfType {
  /** A type of layers, where `rope_parameters` has a part for each type. */
  readonly layers?: string | undefined;
}

/** Where a config may say the same thing: within which fields, under which name. */
type Place = readonly [fields: ConfigFields, name: string];

/**
 * The part of a config that describes rotary positions: `rope_scaling` (older spelling) or `rope_parameters`, possibly empty.
 * @throws ModelFormatError where there are both, and they are not the same.
 */
export function ropeSection(config: ConfigFields, { layers }: LayersOfType): ConfigFields {
  const sections = ["rope_scaling", "rope_parameters"].flatMap((name) => sectionsIn(config, name, layers));
  const [section, other] = sections.filter(({ values }) => Object.keys(values).length > 0);
  if (section && other && spelled(section.values) !== spelled(other.values))
    throw fieldError(config, ["rope_scaling"], `${other.at} says otherwise`);
  return section ?? { file: config.file, at: pathOf([config, "rope_parameters"]), values: {} };
}

function sectionsIn(config: ConfigFields, name: string, layers: string | undefined): ConfigFields[] {
  const values = config.values[name];
  if (values === undefined || values === null) return [];
  if (!isJsonObject(values)) throw fieldError(config, [name], "it must be an object");
  const part = Object.keys(values).find((key) => isJsonObject(values[key]));
  if (part === undefined) return [{ file: config.file, at: pathOf([config, name]), values }];
  if (layers === undefined)
    throw fieldError(config, [name, part], "models of this type have the same positions in all layers");
  const beside = Object.keys(values).find((key) => !isJsonObject(values[key]) && values[key] !== null);
  if (beside !== undefined) throw fieldError(config, [name, beside], "it must be in the part of a type of layers");
  const own = values[layers];
  if (!isJsonObject(own)) throw fieldError(config, [name, layers], "it must be an object");
  return [{ file: config.file, at: pathOf([config, `${name}.${layers}`]), values: own }];
}

/** A section's fields in one order, under transformers 5's names, without those that may also stand outside of it. */
function spelled({ type, rope_theta: _, partial_rotary_factor: __, ...values }: JsonObject): string {
  const renamed = { ...values, rope_type: values.rope_type ?? type ?? "default" };
  const entries = Object.entries(renamed).filter(([, value]) => value !== null);
  return JSON.stringify(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * What a config says at one of several places, the first of which counts most; undefined where it says nothing.
 * @throws ModelFormatError naming a place that contradicts another, or holds what `schema` refuses
 */
export function agreed<T>(places: readonly Place[], schema: z.ZodType<T | null | undefined>): T | undefined {
  const said = places.flatMap((place) => {
    const [fields, name] = place;
    const value = parseFields(z.object({ [name]: schema }), fields)[name];
    return value === undefined || value === null ? [] : [{ place, value }];
  });
  const [first] = said;
  const other = said.find(({ value }) => value !== first?.value);
  if (first && other) throw fieldError(other.place[0], [other.place[1]], `${pathOf(first.place)} is ${first.value}`);
  return first?.value;
}

const pathOf = ([fields, name]: Place): string => [...(fields.at ? [fields.at] : []), name].join(".");
