import { z } from "zod";
import { type ConfigFields, fieldError, TokenId, TokenIds, whole } from "../config.js";
import type { ModelShape, Positions } from "../model-shape.js";

// Far above every published model, far below what would hurt before the weights are compared with it.
export const layerCount = whole(1, 2_000);
export const headCount = whole(1, 4_096);
export const width = whole(1, 2 ** 20);
export const vocabularySize = whole(1, 2 ** 24);
export const positionCount = whole(1, 2 ** 40);

/** A flag, and what it is where it is left out or null. */
export const flag = (otherwise: boolean) =>
  z
    .boolean("it must be true or false")
    .nullish()
    .transform((found) => found ?? otherwise);

/** First and last token of a text, in every config. */
export const textTokenFields = { bos_token_id: TokenId.nullish(), eos_token_id: TokenIds.nullish() };

/** What the config of every family says of its sizes, and of the tokens around a text. */
export interface ModelSizes {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  /** Divides `heads`: each key-value head serves heads / kvHeads query heads. */
  readonly kvHeads: number;
  readonly headDim: number;
  /** Tokens. */
  readonly trainedLength: number;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
}

/**
 * The dimensions of a head, where heads share the hidden size.
 * @param names under which configs have the hidden size
 * @throws ModelFormatError naming it, if they cannot
 */
export function sharedHeadDim(
  config: ConfigFields,
  names: readonly [string, ...string[]],
  hiddenSize: number,
  heads: number,
): number {
  const name = names.find((each) => (config.values[each] ?? null) !== null) ?? names[0];
  if (hiddenSize % heads !== 0)
    throw fieldError(config, [name], `it must be a multiple of the number of attention heads (${heads})`);
  return hiddenSize / heads;
}

/** @throws ModelFormatError if a text would start with a token that the model does not have */
export function textTokens(
  config: ConfigFields,
  found: {
    readonly vocab_size: number;
    readonly bos_token_id?: number | null | undefined;
    readonly eos_token_id?: readonly number[] | null | undefined;
  },
): Pick<ModelSizes, "bosTokenId" | "eosTokenIds"> {
  const bosTokenId = found.bos_token_id ?? null;
  if (bosTokenId !== null && bosTokenId >= found.vocab_size)
    throw fieldError(config, ["bos_token_id"], `it must be below vocab_size, which is ${found.vocab_size}`);
  return { bosTokenId, eosTokenIds: found.eos_token_id ?? [] };
}

/**
 * A size that configs have under one of several names.
 * @throws ModelFormatError naming the first where none is there, or one that contradicts another
 */
export function underEitherName<Name extends string>(
  config: ConfigFields,
  found: Readonly<Partial<Record<Name, number | null | undefined>>>,
  names: readonly [Name, ...Name[]],
): number {
  const [name = names[0], ...others] = names.filter((each) => (found[each] ?? null) !== null);
  const size = found[name];
  if (size === undefined || size === null) throw fieldError(config, [name], "it must be a whole number");
  for (const other of others)
    if (found[other] !== size) throw fieldError(config, [other], `it must be what ${name} is: ${size}`);
  return size;
}

/** The same, where it may be left out. @throws ModelFormatError naming one that contradicts another */
export const underEitherNameOr = <Name extends string>(
  config: ConfigFields,
  found: Readonly<Partial<Record<Name, number | null | undefined>>>,
  names: readonly [Name, ...Name[]],
  otherwise: number,
): number => (names.some((name) => (found[name] ?? null) !== null) ? underEitherName(config, found, names) : otherwise);

/** The shape of a model whose layers all see the text in the same way. */
export const alikeLayers = (
  c: ModelSizes,
  positions: Positions,
  learnedPositions: number | null = null,
): ModelShape => ({
  vocabSize: c.vocabSize,
  hiddenSize: c.hiddenSize,
  layers: c.layers,
  heads: c.heads,
  kvHeads: c.kvHeads,
  headDim: c.headDim,
  trainedLength: c.trainedLength,
  bosTokenId: c.bosTokenId,
  eosTokenIds: c.eosTokenIds,
  geometries: [{ window: "lambda", positions }],
  layerGeometries: Array.from({ length: c.layers }, () => 0),
  learnedPositions,
  postNorm: false,
  ignoresMean: "always",
});
