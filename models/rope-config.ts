import { z } from "zod";
import { type ConfigFields, fieldError, parseFields, positive, whole } from "./config.js";
import type { RopeParameters } from "./rope.js";
import { agreed, type LayersOfType, ropeSection } from "./rope-section.js";

/** A length in tokens; published configs go to ten million. */
const tokens = whole(1, 2 ** 40);
const factor = positive.nullish();
const list = z.array(positive, "it must be a list of numbers above 0");

const name = z.string("it must be a name").nullish();
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

/** Fields of a section that only a type reads. Those that ask for nothing, or for 1, may stand anywhere. */
const OWN_FIELDS: Readonly<Record<RopeParameters["type"], readonly string[]>> = {
  default: [],
  linear: Object.keys(Linear.shape),
  llama3: Object.keys(Llama3.shape),
  yarn: Object.keys(Yarn.shape),
  longrope: Object.keys(LongRope.shape),
  divided: Object.keys(Divided.shape),
};
/** `finetuned` is how the first YaRN models said that they were trained on it. */
const COMMON_FIELDS = ["rope_type", "type", "rope_theta", "partial_rotary_factor", "finetuned"];
const ORIGINAL = "original_max_position_embeddings";

/** What a family's positions are where its config does not say. */
interface RopeDefaults {
  readonly theta?: number;
  readonly partialFactor?: number;
  /** Tokens; default: the trained length. */
  readonly originalLength?: number;
}

/** Under which names, other than within `rope_parameters`, a family's config may say what its positions are. */
interface RopeNames {
  readonly theta?: readonly string[];
  readonly partialFactor?: readonly string[];
}

export interface RopeSource extends LayersOfType {
  readonly defaults?: RopeDefaults;
  /** Left out: rope_theta and partial_rotary_factor. */
  readonly names?: RopeNames;
}

/**
 * The share of a head's dimensions that is rotated.
 * @throws ModelFormatError if it is no number above 0 and up to 1, or said twice and differently.
 */
export function partialRotaryFactor(config: ConfigFields, { defaults, names, ...of }: RopeSource = {}): number {
  const must = "it must be a number above 0 and at most 1";
  const share = z.number(must).positive(must).max(1, must).nullish();
  const outer = (names?.partialFactor ?? ["partial_rotary_factor"]).map((each) => [config, each] as const);
  const found = agreed([[ropeSection(config, of), "partial_rotary_factor"], ...outer], share);
  return found ?? defaults?.partialFactor ?? 1;
}

/**
 * Rotary positions from a config in either spelling: `rope_theta` beside `rope_scaling`, or both within `rope_parameters`
 * (transformers 5). What is left out takes the values transformers 5 gives it.
 * @throws ModelFormatError naming the field that is wrong, contradicts another or means nothing to the rope type, or the
 * rope type if it is unknown or changes frequencies with the length.
 */
export function readRope(
  config: ConfigFields,
  {
    rotaryDim,
    maxPositionEmbeddings,
    defaults = {},
    names = {},
    ...of
  }: RopeSource & { readonly rotaryDim: number; readonly maxPositionEmbeddings: number },
): RopeParameters {
  const section = ropeSection(config, of);
  const type =
    agreed(
      [
        [section, "rope_type"],
        [section, "type"],
      ],
      name,
    ) ?? "default";
  const outer = (names.theta ?? ["rope_theta"]).map((each) => [config, each] as const);
  const theta = agreed([[section, "rope_theta"], ...outer], factor) ?? defaults.theta ?? 10_000;
  const said = agreed(
    [
      [section, ORIGINAL],
      [config, ORIGINAL],
    ],
    tokens.nullish(),
  );
  const originalLength = said ?? defaults.originalLength ?? maxPositionEmbeddings;
  const rope = ropeOf(type, section, { theta, originalLength, maxPositionEmbeddings, rotaryDim });
  const strange = Object.entries(section.values).find(
    ([field, value]) => ![...COMMON_FIELDS, ORIGINAL, ...OWN_FIELDS[rope.type]].includes(field) && value && value !== 1,
  );
  if (strange) throw fieldError(section, [strange[0]], `positions of the type ${type} have no such field`);
  return rope;
}

interface RopeSizes {
  readonly theta: number;
  readonly originalLength: number;
  readonly maxPositionEmbeddings: number;
  readonly rotaryDim: number;
}

function ropeOf(type: string, section: ConfigFields, sizes: RopeSizes): RopeParameters {
  const { theta, originalLength, maxPositionEmbeddings, rotaryDim } = sizes;
  const typeField = typeof section.values.rope_type === "string" ? "rope_type" : "type";
  switch (type) {
    case "default":
      return { type, theta };
    case "linear":
      return { type, theta, factor: parseFields(Linear, section).factor };
    case "llama3":
      return { type, theta, originalLength, ...llama3(section) };
    case "yarn":
      return yarn(section, theta, originalLength, maxPositionEmbeddings);
    case "longrope":
    case "su": // its name in the first Phi-3
      return longrope(section, theta, originalLength, maxPositionEmbeddings, rotaryDim);
    case "divided":
      return { type, theta, ...divided(section, rotaryDim) };
    case "dynamic":
      throw fieldError(
        section,
        [typeField],
        "dynamic scaling changes every frequency as the text grows, which a cache of rotated keys cannot follow",
      );
    default:
      throw fieldError(
        section,
        [typeField],
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
