import { z } from "zod";
import { type ConfigFields, fieldError, parseFields, positive, whole } from "./config.js";
import { isJsonObject } from "./model-file.js";
import type { RopeParameters } from "./rope.js";

/** A length in tokens; published configs go to ten million. */
const tokens = whole(1, 2 ** 40);
const factor = positive.nullish();
const list = z.array(positive, "it must be a list of numbers above 0");

const Theta = z.object({ rope_theta: positive.nullish() });
const Kind = z.object({
  rope_type: z.string("it must be a name").nullish(),
  type: z.string("it must be a name").nullish(),
});
const Linear = z.object({ factor: positive });
const Llama3 = z.object({
  factor: positive,
  low_freq_factor: positive,
  high_freq_factor: positive,
});
const Yarn = z.object({
  factor,
  attention_factor: factor,
  mscale: z.number("it must be a number").nullish(),
  mscale_all_dim: z.number("it must be a number").nullish(),
  beta_fast: z.number("it must be a number").nullish(),
  beta_slow: z.number("it must be a number").nullish(),
  truncate: z.boolean("it must be true or false").nullish(),
});
const LongRope = z.object({ factor, attention_factor: factor, short_factor: list, long_factor: list });
const Divided = z.object({ divisors: list });

/** Which rotary positions of a config are asked for. */
interface LayersOfType {
  /** A type of layers, where `rope_parameters` has a part for each type. */
  readonly layers?: string | undefined;
}

/** The part of a config that describes rotary positions: `rope_scaling` (older spelling) or `rope_parameters`, possibly empty. */
function ropeSection(config: ConfigFields, { layers }: LayersOfType): ConfigFields {
  const within = (...names: string[]) => [...(config.at ? [config.at] : []), ...names].join(".");
  for (const name of ["rope_scaling", "rope_parameters"]) {
    const values = config.values[name];
    if (values === undefined || values === null) continue;
    if (!isJsonObject(values)) throw fieldError(config, [name], "it must be an object");
    const part = Object.keys(values).find((key) => isJsonObject(values[key]));
    if (part === undefined) {
      if (Object.keys(values).length > 0) return { file: config.file, at: within(name), values };
      continue;
    }
    if (layers === undefined)
      throw fieldError(config, [name, part], "models of this type have the same positions in all layers");
    const own = values[layers];
    if (!isJsonObject(own)) throw fieldError(config, [name, layers], "it must be an object");
    return { file: config.file, at: within(name, layers), values: own };
  }
  return { file: config.file, at: within("rope_parameters"), values: {} };
}

/**
 * The share of a head's dimensions that is rotated.
 * @throws ModelFormatError if it is no number above 0 and up to 1.
 */
export function partialRotaryFactor(config: ConfigFields, of: LayersOfType = {}): number {
  const must = "it must be a number above 0 and at most 1";
  const Partial = z.object({ partial_rotary_factor: z.number(must).positive(must).max(1, must).nullish() });
  const inner = parseFields(Partial, ropeSection(config, of)).partial_rotary_factor;
  return inner ?? parseFields(Partial, config).partial_rotary_factor ?? 1;
}

/**
 * Rotary positions from a config in either spelling: `rope_theta` beside `rope_scaling`, or both within `rope_parameters`
 * (transformers 5). What is left out takes the values transformers 5 gives it.
 * @throws ModelFormatError naming the field, or the rope type if it is unknown or changes frequencies with the length.
 */
export function readRope(
  config: ConfigFields,
  {
    rotaryDim,
    maxPositionEmbeddings,
    ...of
  }: LayersOfType & { readonly rotaryDim: number; readonly maxPositionEmbeddings: number },
): RopeParameters {
  const section = ropeSection(config, of);
  const kind = parseFields(Kind, section);
  const type = kind.rope_type ?? kind.type ?? "default";
  const theta = parseFields(Theta, section).rope_theta ?? parseFields(Theta, config).rope_theta ?? 10_000;
  const originalLength = () => {
    const Original = z.object({ original_max_position_embeddings: tokens.nullish() });
    const outer = parseFields(Original, config).original_max_position_embeddings;
    return outer ?? parseFields(Original, section).original_max_position_embeddings ?? maxPositionEmbeddings;
  };
  switch (type) {
    case "default":
      return { type, theta };
    case "linear":
      return { type, theta, factor: parseFields(Linear, section).factor };
    case "llama3":
      return { type, theta, originalLength: originalLength(), ...llama3(section) };
    case "yarn":
      return yarn(section, theta, originalLength(), maxPositionEmbeddings);
    case "longrope":
    case "su": // its name in the first Phi-3
      return longrope(section, theta, originalLength(), maxPositionEmbeddings, rotaryDim);
    case "divided":
      return { type, theta, ...divided(section, rotaryDim) };
    case "dynamic":
      throw fieldError(
        section,
        [kind.rope_type ? "rope_type" : "type"],
        "dynamic scaling changes every frequency as the text grows, which a cache of rotated keys cannot follow",
      );
    default:
      throw fieldError(
        section,
        [kind.rope_type ? "rope_type" : "type"],
        "the rope types known here are default, linear, llama3, yarn, longrope and divided",
      );
  }
}

function llama3(section: ConfigFields) {
  const { factor, low_freq_factor, high_freq_factor } = parseFields(Llama3, section);
  if (high_freq_factor <= low_freq_factor)
    throw fieldError(section, ["high_freq_factor"], `it must be above low_freq_factor (${low_freq_factor})`);
  return { factor, lowFreqFactor: low_freq_factor, highFreqFactor: high_freq_factor };
}

function yarn(
  section: ConfigFields,
  theta: number,
  originalLength: number,
  maxPositionEmbeddings: number,
): RopeParameters {
  const found = parseFields(Yarn, section);
  const factor = found.factor ?? maxPositionEmbeddings / originalLength;
  const magnitude = (scale: number) => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
  const { mscale, mscale_all_dim } = found;
  return {
    type: "yarn",
    theta,
    factor,
    originalLength,
    // 0 means left out, as in transformers.
    betaFast: found.beta_fast || 32,
    betaSlow: found.beta_slow || 1,
    truncate: found.truncate ?? true,
    attentionFactor:
      found.attention_factor ??
      (mscale && mscale_all_dim ? magnitude(mscale) / magnitude(mscale_all_dim) : magnitude(1)),
  };
}

function divided(section: ConfigFields, rotaryDim: number) {
  const found = parseFields(Divided, section);
  checkLength(section, "divisors", found.divisors, rotaryDim);
  return found;
}

function longrope(
  section: ConfigFields,
  theta: number,
  originalLength: number,
  maxPositionEmbeddings: number,
  rotaryDim: number,
): RopeParameters {
  const found = parseFields(LongRope, section);
  for (const name of ["short_factor", "long_factor"] as const) checkLength(section, name, found[name], rotaryDim);
  const factor = found.factor ?? maxPositionEmbeddings / originalLength;
  const magnitude = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalLength));
  return {
    type: "longrope",
    theta,
    originalLength,
    shortFactors: found.short_factor,
    longFactors: found.long_factor,
    attentionFactor: found.attention_factor ?? magnitude,
  };
}

function checkLength(section: ConfigFields, name: string, list: readonly number[], rotaryDim: number): void {
  if (list.length !== rotaryDim / 2)
    throw fieldError(section, [name], `it must have ${rotaryDim / 2} entries, one per pair of rotated dimensions`);
}
