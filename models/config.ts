import { join } from "node:path";
import { z } from "zod";
import { ModelFormatError } from "./errors.js";
import { type JsonObject, readJsonObject } from "./model-file.js";

/** Fields as they stand in a file, with what an error must name: the file, and the field that holds them (none at the top). */
export interface ConfigFields {
  readonly file: string;
  readonly values: JsonObject;
  readonly at?: string;
}

/**
 * config.json of a model folder.
 * @throws ModelFormatError if it is absent, cut off, or no object.
 */
export const readConfig = (folder: string): ConfigFields => readFields(join(folder, "config.json"));

/** The fields of a JSON file. @throws ModelFormatError as `readConfig`. */
export const readFields = (file: string): ConfigFields => ({ file, values: readJsonObject(file) });

/**
 * What a schema, in the spelling on disk, makes of the fields; unknown fields are ignored.
 * @throws ModelFormatError naming file, field, the value found and the schema's message.
 */
export function parseFields<S extends z.ZodType>(schema: S, fields: ConfigFields): z.output<S> {
  const parsed = schema.safeParse(fields.values);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw fieldError(fields, issue?.path.map(String) ?? [], issue?.message ?? "is not valid");
}

/** The error for one field, with the value found there: `num_attention_heads is 0, but <must>`. */
export function fieldError(fields: ConfigFields, path: readonly string[], must: string): ModelFormatError {
  const name = [...(fields.at ? [fields.at] : []), ...path].join(".");
  const value = path.reduce<unknown>(
    (inner, key) => (typeof inner === "object" && inner !== null ? Reflect.get(inner, key) : undefined),
    fields.values,
  );
  if (value === undefined) return new ModelFormatError(fields.file, `${name} is absent, but ${must}`);
  const shown = JSON.stringify(value);
  return new ModelFormatError(
    fields.file,
    `${name} is ${shown.length > 80 ? `${shown.slice(0, 80)}...` : shown}, but ${must}`,
  );
}

/** A whole number within limits; the limits are there so that an absurd config is refused before it costs anything. */
export function whole(min: number, max: number): z.ZodInt {
  const must = `it must be a whole number from ${min} to ${max}`;
  return z.int(must).min(min, must).max(max, must);
}

/** A finite number above zero. */
export const positive = z.number("it must be a number above 0").positive("it must be a number above 0");

/**
 * The architecture's name.
 * @throws ModelFormatError if it is not one of `known`, naming it and listing them.
 */
export function modelType(config: ConfigFields, known: readonly string[]): string {
  const must = `the architectures known here are: ${known.join(", ")}`;
  return parseFields(z.object({ model_type: z.string(must).refine((type) => known.includes(type), must) }), config)
    .model_type;
}

/** A token id, or several, as the end tokens of a text. Negative ids mean none, as some published configs have it. */
export const TokenIds = z
  .union([z.int(), z.array(z.int())], "it must be a token id or a list of them")
  .transform((ids) => [ids].flat().filter((id) => id >= 0));

/** A token id; negative means none. */
export const TokenId = z.int("it must be a token id").transform((id) => (id >= 0 ? id : null));
